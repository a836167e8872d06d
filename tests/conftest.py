"""Shared by all tests: forbidden skips are failures, the folder of real images."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent

REQUIRE = os.environ.get("EDGEINSPECT_REQUIRE", "")
"""`all`: a component that is absent fails the tests that need it."""

# Processes side by side with as many threads each as there are processors wait for each other:
# training took ten times as long. Before torch is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples in every run of CI, so that a random failure does not hit an unrelated change.
# No deadline, since PCs are busy.
hypothesis.settings.register_profile("search", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "search")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if (ROOT / "tests" / "gpu") in item.path.parents:
            item.add_marker(pytest.mark.gpu)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    from tests.parallel import SideBySideThenAlone

    return SideBySideThenAlone(config, log)


def may_skip(item: pytest.Item) -> bool:
    """Return whether a test needs a component that not even CI has."""
    fixtures = getattr(item, "fixturenames", ())
    return (
        item.get_closest_marker("gpu") is not None
        or item.get_closest_marker("data") is not None
        or item.get_closest_marker("hardware") is not None
        or item.get_closest_marker("ray") is not None
        or item.get_closest_marker("unprivileged") is not None
        or item.get_closest_marker("container") is not None
        or item.get_closest_marker("writers") is not None
        or "shared_data" in fixtures
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if REQUIRE == "all" and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        if not may_skip(item):
            report.outcome = "failed"
            report.longrepr = f"EDGEINSPECT_REQUIRE=all forbids this skip. {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    # A module that skips itself (importorskip) never becomes a test, so it is caught here.
    report = yield
    in_gpu = (ROOT / "tests" / "gpu") in collector.path.parents
    if REQUIRE == "all" and report.skipped and not in_gpu:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"EDGEINSPECT_REQUIRE=all forbids this skip. {reason}"
    return report


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real images: EDGEINSPECT_DATA, or `../shared/data` beside the checkout."""
    named = os.environ.get("EDGEINSPECT_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the real images are not here ({folder}); set EDGEINSPECT_DATA")
    return folder


@pytest.fixture(autouse=True)
def _fresh_log() -> Generator[None, None, None]:
    """A command sets the log of its process; the next test does not inherit level and stream."""
    yield
    import structlog

    from edgeinspect.system import log

    log.close()
    structlog.reset_defaults()
