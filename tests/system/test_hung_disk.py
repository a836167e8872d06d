"""A read that never returns, as of a dead file server, under the whole daemon.

Stood for by a library that is loaded before the C library: its `read` waits for as long as a
flag file exists, for one file name alone.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeinspect.client import Subscriber
from edgeinspect.domain.verdict import Verdict
from edgeinspect.wire.messages import Heartbeat
from tests import needs
from tests.system.test_line_cli import Plant

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

ssize_t read(int fd, void *buffer, size_t count) {
    static ssize_t (*real)(int, void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "read");
    const char *name = getenv("HUNG_NAME"), *flag = getenv("HUNG_FLAG");
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (name && flag && length > 0) {
        path[length] = 0;
        if (strstr(path, name))
            while (access(flag, F_OK) == 0) usleep(10000);
    }
    return real(fd, buffer, count);
}
"""


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    needs.library("openvino")
    made = Plant(tmp_path)
    yield made
    for child in made.children:
        if child.poll() is None:
            child.kill()
        child.wait(20)
        for pipe in (child.stdout, child.stderr):
            if pipe is not None:
                pipe.close()


def hung(folder: Path) -> tuple[Path, dict[str, str]]:
    """(flag file, environment) of a process in which the reading of 05.png stands still."""
    compiler = needs.program("cc")
    source, shim, flag = folder / "shim.c", folder / "shim.so", folder / "hung"
    source.write_text(SHIM)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", shim, source, "-ldl"], check=True)
    return flag, {"LD_PRELOAD": str(shim), "HUNG_NAME": "05.png", "HUNG_FLAG": str(flag)}


class Ear:
    """Hears a line's heartbeats and verdicts."""

    def __init__(self, plant: Plant) -> None:
        self.listener = Subscriber(plant.address, topics=("heartbeat", "verdict"))

    def until(self, what: Callable[[Any], bool], timeout_s: float = 60) -> Any:
        end = time.monotonic() + timeout_s
        last = None
        while time.monotonic() < end:
            got = self.listener.receive(200)
            if got is not None:
                last = got.message
                if what(last):
                    return last
        raise AssertionError(f"not heard; the last: {last}")


@pytest.mark.slow
def test_the_heartbeat_names_the_file_and_the_line_goes_on_behind_it(
    plant: Plant, tmp_path: Path
) -> None:
    flag, environment = hung(tmp_path)
    source = {"type": "folder", "path": str(tmp_path / "in"), "rate_hz": 20, "repeat": True}
    plant.write(cameras={"top": source})
    ear = Ear(plant)
    with contextlib.closing(ear.listener):
        child = plant.start("run", str(plant.config), **environment)
        ear.until(lambda said: isinstance(said, Verdict))
        flag.touch()
        beat = ear.until(lambda said: isinstance(said, Heartbeat) and bool(said.alarm))
        for _ in range(20):  # for as long as it lasts
            assert not beat.inspecting
            assert beat.alarm.endswith("ms, reading 05.png"), beat.alarm
            beat = ear.until(lambda said: isinstance(said, Heartbeat))
        flag.unlink()
        ear.until(lambda said: isinstance(said, Heartbeat) and said.inspecting and not said.alarm)
        ear.until(lambda said: isinstance(said, Verdict) and said.label == "11.png")
        child.send_signal(signal.SIGTERM)
        child.communicate(timeout=30)
    assert child.returncode == 0
    code, out, err = plant.run("ledger", "query", str(plant.config), "--whole", "--json")
    assert code == 0, err
    rows = sorted((json.loads(line) for line in out.splitlines()), key=lambda row: row["seq"])
    assert [row["label"] for row in rows] == [f"{at % 12:02}.png" for at in range(len(rows))]
    assert {row["decision"] for row in rows} == {"PASS", "REJECT"}


@pytest.mark.slow
@pytest.mark.parametrize("at_start", [True, False])
def test_a_line_whose_disk_hangs_can_be_stopped(
    plant: Plant, tmp_path: Path, at_start: bool
) -> None:
    flag, environment = hung(tmp_path)
    source = {"type": "folder", "path": str(tmp_path / "in"), "rate_hz": 20, "repeat": True}
    plant.write(cameras={"top": source})
    if at_start:
        flag.touch()
    ear = Ear(plant)
    with contextlib.closing(ear.listener):
        child = plant.start("run", str(plant.config), **environment)
        if not at_start:
            ear.until(lambda said: isinstance(said, Verdict))
            flag.touch()
        beat = ear.until(lambda said: isinstance(said, Heartbeat) and bool(said.alarm))
        assert not beat.inspecting
        child.send_signal(signal.SIGTERM)
        child.communicate(timeout=30)
    assert child.returncode == 0
