"""``filtersub compile-kernels``: kernels for this machine's processor, before a command needs them."""

from __future__ import annotations

import time

from .console import say


def compile_kernels() -> None:
    """Compile the kernels for this machine's processor ahead of their first use, once; `make install` does it.

    Kernels that are on disk already are only loaded. NUMBA_CACHE_DIR says where they are kept.
    """
    from ..compile_ahead import compile_ahead
    from ..engine.compile import cache_folder

    began = time.perf_counter()
    for what in compile_ahead():
        say(f"kernels for {what} ...")
    say(f"kernels are ready in {cache_folder()} after {time.perf_counter() - began:.0f} s")
