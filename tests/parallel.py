"""Distribution of the tests over processes: `make test ARGS='-n 2'`.

Files run side by side, each file in one process: those that take long first, those that mostly wait
for another process last. Those that measure time follow in one process when the others have ended:
beside other tests they fail at random.

Source: pytest-xdist, `pytest_xdist_make_scheduler` and its LoadScopeScheduling.
"""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

FIRST = (
    "tests/system/test_ansible.py",
    "tests/system/test_tutorial.py",
    "tests/system/test_systemd.py",
    "tests/system/test_hmi.py",
    "tests/system/test_spare_pc.py",
    "tests/system/test_way_on.py",
)
"""Files that take long, on machines of their own or without a bound on time."""
LAST = (
    "tests/flow/test_curve.py",
    "tests/faults/test_archive_faults.py",
    "tests/faults/test_crash_campaign.py",
    "tests/faults/test_ledger_faults.py",
    "tests/faults/test_line_faults.py",
    "tests/faults/test_resets.py",
    "tests/system/test_gateway_modbus.py",
    "tests/system/test_gateway_opcua.py",
    "tests/system/test_gateway_s7.py",
    "tests/system/test_hmi_layout.py",
    "tests/system/test_hmi_proxy.py",
    "tests/system/test_hung_disk.py",
    "tests/system/test_line_cli.py",
    "tests/system/test_rtsp.py",
)
"""Whole lines with budgets of seconds. Two of them use less than two processors."""
SIDE_BY_SIDE = (*FIRST, *LAST, "tests/unit/", "tests/contract/", "tests/fuzz/")
"""Files that may run beside others. A new folder may not, until it is added here."""
BUT = (
    "tests/contract/test_plclinks.py",
    "tests/unit/cameras/test_folder_watch.py",
    "tests/unit/plclinks/test_opcua_hostile.py",
)
"""Files in these folders that compare times, or wait for a peer that a busy PC delays."""
ALONE = "alone"
"""The scope of all other tests: run last, by the only process left."""


class SideBySideThenAlone(LoadScopeScheduling):  # type: ignore[misc]  # no types
    """Gives out files, then all that must run alone."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return path if path.startswith(SIDE_BY_SIDE) and path not in BUT else ALONE

    def _assign_work_unit(self, node: WorkerController) -> None:
        for scope in reversed(FIRST):
            if scope in self.workqueue:
                self.workqueue.move_to_end(scope, last=False)
        for scope in LAST:
            if scope in self.workqueue:
                self.workqueue.move_to_end(scope)
        if ALONE in self.workqueue:
            self.workqueue.move_to_end(ALONE)
        if list(self.workqueue) == [ALONE] and len(self.nodes) > 1:
            return  # when the others have ended
        super()._assign_work_unit(node)

    def _reschedule(self, node: WorkerController) -> None:
        others = [each for each in self.nodes if each is not node]
        if list(self.workqueue) == [ALONE] and others:
            if not all(each.shutting_down for each in others):
                node.shutdown()  # finishes what it has
            return
        super()._reschedule(node)

    def schedule(self) -> None:
        super().schedule()
        # A process starts a test when it has the next one too: not with a file of one test.
        for node in self.nodes:
            self._reschedule(node)

    def remove_node(self, node: WorkerController) -> str | None:
        """Return the test in which the process crashed; its other tests are given out again."""
        workload = self.assigned_work.pop(node)
        left = [name for unit in workload.values() for name, done in unit.items() if not done]
        if left:
            workload[self._split_scope(left[0])][left[0]] = True
            for scope, unit in workload.items():
                if not all(unit.values()):
                    self.workqueue[scope] = unit
        for each in self.nodes:
            self._reschedule(each)
        return left[0] if left else None
