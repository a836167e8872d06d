"""Long run of the fuzz tests in tests/fuzz: every decoder of untrusted bytes, in turn.

    python benchmarks/fuzz.py --seconds 3600 [--seed 1] [--only wire]

Prints how many inputs each decoder received, accepted and rejected, and the first input that
broke one, with its seed. Ends with 1 if there is one.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from edgeinspect.system import configure
from tests.fuzz import certificates, files, labels, messages, protocols, recordings, stored
from tests.fuzz.target import BrokenDecoderError, attack

ROUND = 100


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="decoders whose name begins like this")
    asked = parser.parse_args()
    configure("json", "error")
    targets = [
        target
        for module in (messages, files, labels, protocols, recordings, stored, certificates)
        for target in module.TARGETS
        if target.name.startswith(asked.only)
    ]
    taken, refused, broken = Counter[str](), Counter[str](), dict[str, str]()
    end_s, seed = time.monotonic() + asked.seconds, asked.seed
    while time.monotonic() < end_s:
        for target in targets:
            if target.name in broken:
                continue
            with tempfile.TemporaryDirectory() as folder:
                try:
                    took, left = attack(target, seed, ROUND, Path(folder))
                except BrokenDecoderError as error:
                    broken[target.name] = f"seed {seed}: {error}"
                    print(f"BROKEN {broken[target.name]}", flush=True)
                    continue
            taken[target.name] += took
            refused[target.name] += left
        seed += 1
    for target in targets:
        print(f"{target.name:34} {taken[target.name]:>9} taken {refused[target.name]:>9} refused")
    total = taken.total() + refused.total()
    print(f"{total} inputs for {len(targets)} decoders, {len(broken)} broken")
    return bool(broken)


if __name__ == "__main__":
    raise SystemExit(main())
