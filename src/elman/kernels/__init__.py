"""The chooser of kernels: who computes the loops.

A kernel is a module with ``NAME`` and the functions of :mod:`elman.kernels.reference`, same names, same signatures.
"""

from __future__ import annotations

from types import ModuleType

from elman.errors import InputError, KernelError, did_you_mean

KERNELS = ("numpy", "native")


def available_kernels() -> list[str]:
    """The kernels that can be opened here, the preferred one first."""
    return ["numpy"]


def open_kernel(name: str = "auto", threads: int | None = None) -> ModuleType:
    """The kernel called ``name``: "numpy", "native", or "auto" for the fastest that is here.

    ``threads`` (1 to 1024; None leaves it alone) is how many threads the NumPy kernel's matrix products may use. It is
    a setting of the BLAS library that NumPy loaded, so it holds for the whole process: the last one given counts.

    Raises KernelError where the kernel is not built, InputError for another name or number of threads.
    """
    if name not in ("auto", *KERNELS):
        raise InputError(f"no kernel {name!r}; there are auto, {', '.join(KERNELS)}.{did_you_mean(name, KERNELS)}")
    if name == "native":
        raise KernelError("the native kernel is not part of this version; use kernel 'numpy' or 'auto'")
    if threads is not None:
        if not isinstance(threads, int) or isinstance(threads, bool) or not 1 <= threads <= 1024:
            raise InputError(f"threads must be a whole number from 1 to 1024, not {threads!r}")
        from threadpoolctl import threadpool_limits

        threadpool_limits(threads, user_api="blas")
    from elman.kernels import reference

    return reference
