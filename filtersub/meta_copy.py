"""A copy of a module whose tensors have shapes and no memory, for trials and for counting."""

from __future__ import annotations

import copy

from torch import nn


def meta_copy(module: nn.Module) -> nn.Module:
    """The module with every parameter and buffer on the meta device; shared tensors stay shared, nothing is allocated.

    >>> copied = meta_copy(nn.Linear(2, 3))
    >>> copied.weight.device.type, tuple(copied.weight.shape), copied.weight.requires_grad
    ('meta', (3, 2), True)
    """
    memo: dict[int, object] = {}
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)
    for buffer in module.buffers():
        memo[id(buffer)] = buffer.detach().to("meta")
    return copy.deepcopy(module, memo)
