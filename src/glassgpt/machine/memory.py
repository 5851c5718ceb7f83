"""Memory that was freed is used again, and not given back to the system to be asked for anew."""

import ctypes

# glibc's malloc.h
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
MOST, GROWTH = 2**31 - 1, 64 << 20
_is_kept = False


def keep_freed_memory() -> bool:
    """For this process, from here on; whether its C library can do so (glibc).

    By itself glibc maps every large block anew and unmaps it when it is freed. A training step asks for the same hundreds of
    blocks as the one before it, and the system would hand out each of their pages again, filled with zeros.
    """
    global _is_kept
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library; Windows has none of this kind
        return False
    _is_kept = all(
        mallopt(name, value) for name, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, MOST), (M_TOP_PAD, GROWTH))
    )
    return _is_kept


def is_freed_memory_kept() -> bool:
    return _is_kept


def give_back_freed_memory() -> None:
    """All that was kept until now, once: pieces that lie between others would stay, and what comes next find no place in them.
    Its pages are handed out anew, where they are needed."""
    if _is_kept:
        ctypes.CDLL(None).malloc_trim(0)
