"""How the C library hands out memory.

By default it gives every large block back to the system as soon as it is free, and the next step has each of its pages faulted
in and zeroed again. On a CPU that is a good part of a step's time, so freed memory is kept.
"""

from __future__ import annotations

import ctypes
import sys

_MMAP_THRESHOLD, _TRIM_THRESHOLD, _TOP_PAD, _ARENA_MAX = -3, -1, -2, -8  # mallopt's names, from malloc.h

_LARGEST_KEPT = 32 << 20  # the most that glibc takes: blocks below it come from the heap
_KEPT = 1 << 30  # so much free memory at the heap's end stays
_GROWTH = 16 << 20  # the heap grows by so much at least


def give_back_freed_memory() -> None:
    """What is free now goes back to the system after all, whoever had it."""
    if (library := _glibc()) is not None:
        library.malloc_trim(0)


def keep_freed_memory() -> bool:
    """From now on, and for the whole process. One heap for all threads, so that one thread's free memory serves the others.

    False where the C library is another than glibc; nothing has changed then.
    """
    if (library := _glibc()) is None:
        return False
    wanted = ((_ARENA_MAX, 1), (_MMAP_THRESHOLD, _LARGEST_KEPT), (_TRIM_THRESHOLD, _KEPT), (_TOP_PAD, _GROWTH))
    accepted = [library.mallopt(name, value) == 1 for name, value in wanted]
    return all(accepted)


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None
