"""The chooser of kernels: who computes the loops.

A kernel has ``NAME`` and the functions of :mod:`elman.kernels.reference`, same names, same signatures.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

from elman.errors import InputError, KernelError, did_you_mean

KERNELS = ("numpy", "native")
PRECISIONS = ("float32", "bf16", "auto")


def available_kernels() -> list[str]:
    """The kernels that can be opened here, the preferred one first."""
    return ["native", "numpy"] if find_spec("elman.kernels._native") else ["numpy"]


def open_kernel(name: str = "auto", threads: int | None = None) -> Any:
    """The kernel called ``name``: "numpy", "native", or "auto" for the fastest that is here.

    ``threads`` (1 to 1024; None: all processors) is how many threads compute. For the native kernel it holds for what
    opens it. For NumPy's matrix products, which both kernels use between the loops, it is a setting of the BLAS library
    that NumPy loaded, so it holds for the whole process: the last one given counts.

    Raises KernelError where the kernel is not built, InputError for another name or a number of threads.
    """
    if name not in ("auto", *KERNELS):
        raise InputError(f"no kernel {name!r}; there are auto, {', '.join(KERNELS)}.{did_you_mean(name, KERNELS)}")
    if name == "auto":
        name = available_kernels()[0]
    if threads is not None:
        if not isinstance(threads, int) or isinstance(threads, bool) or not 1 <= threads <= 1024:
            raise InputError(f"threads must be a whole number from 1 to 1024, not {threads!r}")
        from threadpoolctl import threadpool_limits

        threadpool_limits(threads, user_api="blas")
    if name == "numpy":
        from elman.kernels import reference

        return reference
    if "native" not in available_kernels():
        raise KernelError(
            "the native kernel was not built here, as no C++ compiler worked at installation; "
            "install one (for example g++) and elman again, or use kernel 'numpy' or 'auto'"
        )
    from elman.kernels.native import NativeKernel

    return NativeKernel(threads or processors())


def bf16_lacks() -> str | None:
    """What the native kernel lacks here to train in bf16, in words; None where it can."""
    if "native" not in available_kernels():
        return "the native kernel was not built here"
    from elman.kernels import native

    return native.bf16_lacks()


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
