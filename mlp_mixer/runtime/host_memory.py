"""Makes the CPU backend reuse its memory."""

import ctypes
import glob
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # from glibc's malloc.h


def keep() -> None:
    """Tells the C library to keep freed memory; call it before JAX computes anything.

    XLA on CPU takes its scratch memory anew for each step, which glibc maps and unmaps, and the
    kernel clears page by page: a third of the time of a small model's step (see
    benchmarks/host_memory.py). Machines with an accelerator are left alone: there the host decodes
    images in many threads, for which one arena would be too few.
    """
    accelerators = ("/dev/accel*", "/dev/vfio/[0-9]*", "/dev/nvidia[0-9]*")
    if sys.platform != "linux" or any(glob.glob(pattern) for pattern in accelerators):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # absent where libc is not glibc
    if mallopt:
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
