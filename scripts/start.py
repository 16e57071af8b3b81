"""What every run of a bundle does first."""

from __future__ import annotations

import ctypes
import platform

from scripts.errors import report_input_errors

__all__ = ["keep_freed_memory", "start"]

# parameters of mallopt(3)
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4


def start() -> None:
    """Let this process end with one line where its input is wrong, and keep the memory that it frees."""
    report_input_errors()
    keep_freed_memory()


def keep_freed_memory() -> bool:
    """Let the process keep memory that tensors on the CPU free, and return whether the C library agreed.

    glibc by default gives every large block back to the system when it is freed, and the system fills the next one
    with zeros, page by page: with 3D images that takes a fifth of the time of training on a CPU. What the process
    takes at its peak stays as it is; in between it holds what it once had. Other C libraries are left alone.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all([mallopt(_MMAP_MAX, 0), mallopt(_TRIM_THRESHOLD, 2**31 - 1), mallopt(_TOP_PAD, 64 << 20)])
