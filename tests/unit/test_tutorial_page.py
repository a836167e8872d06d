"""A tutorial page is read into its steps, and compared with what was printed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.system.tutorial_page import missing_lines, read_steps

ROOT = Path(__file__).resolve().parents[2]
SUDO = """#!/bin/sh
# As sudo does: an environment and a home folder of root.
exec env -i PATH="$PATH" HOME=/root "$@"
"""
PAGE = """
# Title

```sh
echo one
```

```text
one
```

<!-- tutorial: terminal line -->
```sh
run it
```

<!-- tutorial: similar -->
```text
started 1
...
```

<!-- tutorial: output line similar -->
```text
frame 7
```

<!-- tutorial: stop line -->

```yaml
not: a step
```
"""


def test_steps_of_a_page(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(PAGE)
    steps = read_steps(tmp_path / "page.md")
    assert [(s.kind, s.terminal, s.command, s.shown, s.likeness) for s in steps] == [
        ("run", "", "echo one\n", "one\n", "exact"),
        ("start", "line", "run it\n", "started 1\n...\n", "similar"),
        ("output", "line", "", "frame 7\n", "similar"),
        ("stop", "line", "", "", "exact"),
    ]


def test_a_difference_is_found() -> None:
    assert missing_lines("a  b\nc\n", "a b\nc", "exact") == []
    assert missing_lines("a b\nc\n", "a\nb c", "exact") == []
    assert missing_lines("a\nc\n", "a\nb\nc", "exact") == ["a", "c"]
    assert missing_lines("a\n...\nc\n", "a\nb\nx\nc", "exact") == []
    assert missing_lines("a\nc\n", "a\nb\nc\nd", "exact", gaps=True) == []
    assert missing_lines("c\na\n", "a\nb\nc\n", "exact", gaps=True) == ["a"]
    assert missing_lines("a\n", "a\nb\n", "exact") == ["a"]
    assert missing_lines("a 1\n", "a 2\nb\n", "similar") == ["nothing more, but there was: b"]
    assert missing_lines("a\n...\n", "a\nb\n", "exact") == []
    assert missing_lines("in 3.5 s, 1a2b3c4d\n", "in 12 s, ffffff00\n", "similar") == []
    assert missing_lines("in 3 s\n", "in 4 s\n", "exact") == ["in 3 s"]
    assert missing_lines("good 3\n", "bad 3\n", "similar") == ["good 0"]
    assert missing_lines("rate  3 %\n  more\n", "x\nrate   9 to\n  12 %\n", "rows") == []
    assert missing_lines("rate  3 %\nAUC  1\n", "rate   9 to\n", "rows") == ["AUC"]


def test_the_root_shell_of_the_tutorial_keeps_the_reader_s_home(tmp_path: Path) -> None:
    steps = read_steps(ROOT / "docs/tutorial/images_to_rejects.md")
    (command,) = [step.command for step in steps if step.command.startswith("sudo ")]
    sudo = tmp_path / "sudo"
    sudo.write_text(SUDO)
    sudo.chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", command],
        input="cd ~; pwd",
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)},
        timeout=30,
    )
    assert done.stdout.strip() == str(tmp_path)
