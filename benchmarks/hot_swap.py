"""Promotion, rollback and reload under load: late verdicts, lost frames.

A complete line with the shipped models, at `--rate` frames a second. Blocks without changes
alternate with blocks in which the models are promoted, rolled back and reloaded, `--swaps` times
in all, so that both run under the same conditions. Prints the latency of verdicts in each, and
checks the ledger's balance. `--shadow` adds blocks with candidates in shadow.

    python benchmarks/hot_swap.py [--swaps 100] [--rate 50] [--shadow] [--backend ov]
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import yaml

from edgeinspect.cameras import FramePacer, synthetic
from edgeinspect.client import Subscriber
from edgeinspect.config import load_config
from edgeinspect.domain import Decision, Grab, Part, Pixels, SystemClock, Verdict
from edgeinspect.pipeline.factory import build_line
from edgeinspect.services.daemon.reload import Reloader, restart_shadow
from edgeinspect.storage.ledger import verify_ledger
from edgeinspect.storage.model_store import GATE, SEGMENTER, ModelStore, default_root
from edgeinspect.storage.shadow_results import read_comparisons
from edgeinspect.system import configure

BLOCK_SWAPS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--swaps", type=int, default=100)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--budget-ms", type=float, default=150.0)
    parser.add_argument("--backend", default="ov")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument(
        "--threads", type=int, default=0, help="per inference; 0: OpenVINO's choice"
    )
    parser.add_argument("--shadow", action="store_true")
    options = parser.parse_args()
    configure("console", "critical")
    shared = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="hot-swap-", dir=shared) as folder:
        print(json.dumps(HotSwapRun(Path(folder), options).run(), indent=2))


def synthetic_images() -> list[Pixels]:
    """Return synthetic strip in which one image in ten has a defect."""
    source = synthetic.build(synthetic.Options(pictures=64, seed=3), SystemClock())
    source.render_images()
    pairs = list(zip(source._images, source.ground_truth, strict=True))
    clean = [picture for picture, defective in pairs if not defective]
    bad = [picture for picture, defective in pairs if defective]
    return [bad[i // 10 % len(bad)] if i % 10 == 9 else clean[i % len(clean)] for i in range(60)]


class RepeatingCamera:
    """A camera that repeats given images at a rate."""

    def __init__(self, rate_hz: float, images: list[Pixels]) -> None:
        self._pace = FramePacer("rate", rate_hz, SystemClock())
        self._images = images
        self._sent = 0

    @property
    def period_ns(self) -> int | None:
        return self._pace.period_ns

    def open(self) -> None:
        self._pace.start()

    def grab(self, timeout_ns: int) -> Grab | None:
        due = self._pace.wait(timeout_ns)
        if due is None:
            return None
        self._sent += 1
        return Grab(self._images[self._sent % len(self._images)], self._sent, due[0])

    def release(self, grab: Grab) -> None:
        pass

    def trigger(self, part: Part) -> None:
        pass

    def close(self) -> None:
        pass


class HotSwapRun:
    """One line, its store with two versions of each model, and its subscriber."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder = folder
        self.options = options
        self.store = ModelStore(folder / "engines")
        for name in (GATE, SEGMENTER):
            self._two_versions(name)
        self.path = folder / "line.yaml"
        self._write_config()
        self.kind = "warm-up"
        self.kinds: dict[int, str] = {}
        """First seq of each block, and its kind."""
        self.verdicts: list[tuple[int, int, str]] = []
        self.segmented = 0
        self.listening = True

    def _two_versions(self, name: str) -> None:
        """Install the shipped version as 1, and a copy with other metadata as 2."""
        source = default_root() / name
        newest = max(int(path.parent.name) for path in source.glob("*/manifest.yaml"))
        for version in (1, 2):
            target = self.store.root / name / str(version)
            shutil.copytree(source / str(newest), target)
            manifest = yaml.safe_load((target / "manifest.yaml").read_text())
            manifest["version"] = version
            (target / "manifest.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False))
        self.store.model_versions(name).promote(1)

    def _write_config(self) -> None:
        gate = self.store.resolve(GATE).thresholds
        classes = self.store.resolve(SEGMENTER).thresholds
        options = self.options
        config = {
            "schema": 1,
            "line": "swap",
            "budget_ms": options.budget_ms,
            "store": str(self.store.root),
            "cameras": {"top": {"type": "synthetic", "rate_hz": options.rate, "pictures": 64}},
            "engines": {
                "gate": {"type": options.backend, "model": GATE, "threads": options.threads},
                "segmenter": {
                    "type": options.backend,
                    "model": SEGMENTER,
                    "threads": options.threads,
                },
            },
            "inspect": {"workers": options.workers},
            "optics": {"mm_per_px_x": 0.5, "mm_per_px_y": 0.5},
            "decide": {
                "gate": {
                    "suspect_at": gate["suspect"],
                    "reject_at": gate["reject"],
                    "degraded_reject_at": gate["degraded"],
                    "reject_code": 99,
                },
                "classes": {
                    name: {
                        "score": rule["score"],
                        "area_px": max(1, round(rule["area_px"])),
                        "severity": 3,
                        "reject_code": 10 + index,
                    }
                    for index, (name, rule) in enumerate(classes.items())
                },
            },
            "publish": {"verdicts": "tcp://127.0.0.1:*", "replay": "tcp://127.0.0.1:*"},
            "spool": {"folder": str(self.folder / "run")},
            "ledger": {"folder": str(self.folder / "ledger")},
        }
        self.path.write_text(json.dumps(config))

    def run(self) -> dict[str, object]:
        clock = SystemClock()
        loaded = load_config(self.path)
        camera = RepeatingCamera(self.options.rate, synthetic_images())
        failures: list[BaseException] = []
        line = build_line(
            loaded, clock, on_failure=failures.append, on_end=lambda: None, cameras={"top": camera}
        )
        self.line = line
        reloader = Reloader(line, loaded, self.path, ())
        ear = threading.Thread(target=self._listen, args=(line.publisher.address,), daemon=True)
        ear.start()
        line.start()
        time.sleep(2)
        rss_before = resident_mib()
        took: list[float] = []
        for _ in range(max(1, self.options.swaps // BLOCK_SWAPS)):
            self._begin("swaps")
            block_s = 0.0
            for index in range(BLOCK_SWAPS):
                self._step(index)
                began = time.monotonic()
                if not reloader.reload_now():
                    raise SystemExit(line.engine_swap.problem)
                took.append(time.monotonic() - began)
                block_s += took[-1]
            print(f"{len(took)} swaps, {block_s:.1f} s", file=sys.stderr, flush=True)
            self._begin("quiet")
            time.sleep(block_s / 2)
            if self.options.shadow:
                self._shadow(loaded, block_s / 2)
        rss_after = resident_mib()
        counts = line.stop()
        time.sleep(1)
        self.listening = False
        ear.join(5)
        line.close()
        if failures:
            raise failures[0]
        account = verify_ledger(self.folder / "ledger" / "swap.ledger.sqlite")
        took.sort()
        result: dict[str, object] = {
            "swaps": line.engine_swap.swap_count,
            "swap_s": {"median": round(took[len(took) // 2], 2), "max": round(took[-1], 2)},
            "rate_hz": self.options.rate,
            "budget_ms": self.options.budget_ms,
            "captured": counts.captured,
            "heard": len(self.verdicts),
            "late": counts.late,
            "no_verdict": counts.reasons,
            "degraded": counts.degraded,
            "segmented": self.segmented,
            "equation_holds": account.is_consistent,
            "resident_mib": [rss_before, rss_after],
            "latency_ms": self._latency(),
        }
        if self.options.shadow:
            result["shadow"] = self._shadow_figures()
        return result

    def _step(self, index: int) -> None:
        """Promote, roll back, or reload without a change, in turn."""
        for name in (GATE, SEGMENTER):
            shelf = self.store.model_versions(name)
            if index % 3 == 0 and shelf.read_state().live == 1:
                shelf.promote(2)
            elif index % 3 == 1 and shelf.read_state().before:
                shelf.rollback()

    def _shadow(self, loaded: object, block_s: float) -> None:
        for name in (GATE, SEGMENTER):
            shelf = self.store.model_versions(name)
            shelf.set_shadow(3 - shelf.read_state().live)
        self._begin("shadow starts")
        restart_shadow(self.line, loaded)  # type: ignore[arg-type]
        while self.line.shadow is not None and not self.line.shadow.submitted_count:
            time.sleep(0.05)
        self._begin("shadow")
        time.sleep(block_s)
        self._begin("shadow ends")
        self.line.set_shadow(None)
        for name in (GATE, SEGMENTER):
            self.store.model_versions(name).set_shadow(None)

    def _begin(self, kind: str) -> None:
        self.kinds[self.line.spool.last_seq + 1] = kind

    def _listen(self, address: str) -> None:
        listener = Subscriber(address, topics=("verdict",))
        while self.listening:
            got = listener.receive(100)
            if got is not None and isinstance(got.message, Verdict):
                verdict = got.message
                self.segmented += verdict.segmenter is not None
                words = (
                    verdict.reason.value if verdict.decision is Decision.NO_VERDICT else "judged"
                )
                self.verdicts.append((verdict.seq, verdict.stages.total_us, words))
        listener.close()

    def _latency(self) -> dict[str, dict[str, object]]:
        """Return capture to decision, by kind of block."""
        by_kind: dict[str, list[int]] = {}
        without: dict[str, Counter[str]] = {}
        for seq, total_us, words in self.verdicts:
            kind = self.kinds[max((s for s in self.kinds if s <= seq), default=min(self.kinds))]
            by_kind.setdefault(kind, []).append(total_us)
            if words != "judged":
                without.setdefault(kind, Counter())[words] += 1
        table: dict[str, dict[str, object]] = {}
        for kind, values in by_kind.items():
            values.sort()

            def at(ratio: float, values: list[int] = values) -> float:
                return round(values[min(len(values) - 1, int(len(values) * ratio))] / 1000, 1)

            table[kind] = {
                "frames": len(values),
                "p50": at(0.5),
                "p99": at(0.99),
                "p999": at(0.999),
                "max": at(1),
                "no_verdict": dict(without.get(kind, {})),
            }
        return table

    def _shadow_figures(self) -> list[dict[str, object]]:
        path = self.folder / "ledger" / "swap.shadow.sqlite"
        found = read_comparisons([path], f"{GATE}/1") + read_comparisons([path], f"{GATE}/2")
        return [
            {
                "shadow": one.shadow,
                "live": one.live,
                "frames": one.frames,
                "disagreements": one.disagreements,
                "differing": one.differing,
                "p99_ms": round(one.p99_us / 1000, 1),
            }
            for one in found
        ]


def resident_mib() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 >> 20


if __name__ == "__main__":
    main()
