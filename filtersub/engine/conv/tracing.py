"""When only torch's own operators may run: in graphs that are traced, exported or transformed, and in their gradients.

The compiled operators of this package know one derivative, no batching rule, and are not at hand where an exported file
is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import local

import torch
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import get_proxy_mode

_state = local()


def only_torch_runs() -> bool:
    """Whether a graph is traced or exported, a transform of torch.func or forward-mode differentiation is active, or
    ``only_torch`` is. Under torch.compile the operators of this package stay."""
    if torch.compiler.is_compiling():
        return torch.compiler.is_exporting()
    return (
        getattr(_state, "only_torch", False)
        or torch.jit.is_tracing()
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
        or get_proxy_mode() is not None
    )


@contextmanager
def only_torch() -> Iterator[None]:
    """Torch's own operators alone, which can be differentiated again."""
    before = getattr(_state, "only_torch", False)
    _state.only_torch = True
    try:
        yield
    finally:
        _state.only_torch = before
