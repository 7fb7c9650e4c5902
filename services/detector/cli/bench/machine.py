"""The machine and the libraries that a number was measured on."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

_PACKAGES = ("onnxruntime", "opencv-python-headless", "numpy", "uvicorn", "fastapi")


def describe_machine() -> dict[str, object]:
    """Return processor, usable cores, Python and the versions of what takes part."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "libraries": {package: version(package) for package in _PACKAGES},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
