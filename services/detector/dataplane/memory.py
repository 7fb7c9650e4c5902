"""Memory of the process that nothing holds any more goes back to the system."""

import ctypes
import gc
import platform

_M_ARENA_MAX = -8  # malloc.h
_ARENAS = 2


def bound_arenas() -> None:
    """Let all threads allocate from two pools, before any is started.

    glibc gives each thread one of its own, up to eight for each core; what is freed in one serves no other.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)


def give_back_memory() -> None:
    """Free what only cycles hold, then ask the allocator to return what is free; takes some milliseconds.

    glibc keeps what was freed for itself: without this, every version that goes leaves its size behind. Other
    C libraries return it by themselves.
    """
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
