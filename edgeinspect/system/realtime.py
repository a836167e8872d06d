"""Real-time settings of the process and its threads, of the kernel and of the interpreter.

A setting is either applied or refused with an error that names the missing permission.
Figures: docs/explanation/decisions/0005-threads-and-clocks.md
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import sys
from collections.abc import Sequence

import cv2

from edgeinspect.errors import ConfigError, ConfigFault

_MCL_CURRENT = 1
_MCL_FUTURE = 2
_PR_SET_TIMERSLACK = 29


def apply_process_settings(
    *,
    cpus: Sequence[int],
    lock_memory: bool,
    fifo_priority: int | None,
    switch_interval_us: float,
) -> dict[str, object]:
    """Apply the settings of `real_time:` and return those in effect, for the log.

    Raises:
        ConfigError: Settings that are not permitted; all of them.
    """
    faults: list[ConfigFault] = []
    if cpus:
        try:
            os.sched_setaffinity(0, cpus)
        except OSError as error:
            faults.append(
                ConfigFault("real_time.cpus", f"cannot be used: {error.strerror}", str(cpus))
            )
    if lock_memory:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE):
            faults.append(
                ConfigFault(
                    "real_time.lock_memory",
                    f"mlockall: {os.strerror(ctypes.get_errno())}; "
                    "needs CAP_IPC_LOCK or LimitMEMLOCK=infinity",
                )
            )
    if fifo_priority is not None:
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(fifo_priority))
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        except OSError as error:
            limit = resource.getrlimit(resource.RLIMIT_RTPRIO)[0]
            faults.append(
                ConfigFault(
                    "real_time.fifo_priority",
                    f"{error.strerror}; needs CAP_SYS_NICE or LimitRTPRIO (now {limit})",
                    str(fifo_priority),
                )
            )
    if faults:
        raise ConfigError(faults)
    cv2.setNumThreads(1)  # its thread pool would compete with the engines
    sys.setswitchinterval(switch_interval_us / 1e6)
    return {
        "fifo_priority": fifo_priority or 0,
        "lock_memory": lock_memory,
        "cpus": sorted(os.sched_getaffinity(0)),
        "switch_interval_us": switch_interval_us,
    }


def set_thread_realtime(priority: int | None) -> None:
    """Remove the calling thread's timer slack, and schedule it with SCHED_FIFO unless None.

    For threads with deadlines (capture, guard, publisher), never for the engines' threads.
    `apply_process_settings` has checked the permission.

    By default the kernel delays timers of normal threads by up to 50 us to save power
    (prctl(2), PR_SET_TIMERSLACK).
    """
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    if priority is not None:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))


def freeze_gc() -> None:
    """Exclude start-up objects from garbage collection and turn it off.

    `InspectionWorker.run` collects when the line is idle.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
