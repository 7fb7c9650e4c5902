"""Memory of the process that nothing holds any more goes back to the system."""

import ctypes
import gc
import platform


def give_back_memory() -> None:
    """Free what only cycles hold, then ask the allocator to return what is free; takes some milliseconds.

    glibc keeps what was freed for itself: without this, every version that goes leaves its size behind. Other
    C libraries return it by themselves.
    """
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
