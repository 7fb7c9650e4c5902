"""The machine and the libraries that a number was measured on."""

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

import psutil

from services.detector.cli.bench.process_tree import ProcessTree

_PACKAGES = ("onnxruntime", "opencv-python-headless", "numpy", "uvicorn", "fastapi")


def describe_machine() -> dict[str, object]:
    """Return processor, usable cores, Python and the versions of what takes part."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "libraries": {package: version(package) for package in _PACKAGES},
    }


class OtherLoad:
    """How much of the machine is used by others than these processes, from the moment this is made."""

    def __init__(self, *pids: int) -> None:
        self._trees = [ProcessTree(pid) for pid in pids]
        self._started, self._others_s = time.perf_counter(), self._seconds_of_others()

    def share(self) -> float:
        """Return the CPU time of all other processes ÷ what all cores had to give, 0 to 1."""
        given_s = (time.perf_counter() - self._started) * (psutil.cpu_count() or 1)
        return min(1.0, max(0.0, (self._seconds_of_others() - self._others_s) / given_s))

    def _seconds_of_others(self) -> float:
        times = psutil.cpu_times()
        waiting = times.idle + getattr(times, "iowait", 0.0)
        busy: float = sum(times[:8]) - waiting  # beyond the eighth Linux counts guests, held in `user` too
        return busy - sum(tree.cpu_seconds() for tree in self._trees)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
