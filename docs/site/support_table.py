"""The table in docs/training.md: which layer kinds each adapter of the installed peft can be put into.

``python docs/site/support_table.py`` prints it; a test holds the document to it.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from filtersub.methods import METHODS, MethodOptions, try_adapter

#: layer kinds, small
KINDS: dict[str, Callable[[], nn.Module]] = {
    "convolution 3 x 3": lambda: nn.Conv2d(16, 32, 3, padding=1),
    "strided, no bias": lambda: nn.Conv2d(16, 32, 3, stride=2, bias=False),
    "reflected padding": lambda: nn.Conv2d(16, 32, 3, padding=1, padding_mode="reflect"),
    "dilated": lambda: nn.Conv2d(16, 32, 3, dilation=2),
    "not square": lambda: nn.Conv2d(16, 32, (1, 7)),
    "pointwise 1 x 1": lambda: nn.Conv2d(16, 32, 1),
    "grouped": lambda: nn.Conv2d(16, 32, 3, groups=4),
    "depthwise": lambda: nn.Conv2d(16, 16, 3, groups=16),
    "one dimension": lambda: nn.Conv1d(16, 32, 3),
    "three dimensions": lambda: nn.Conv3d(16, 32, 3),
    "transposed": lambda: nn.ConvTranspose2d(16, 32, 3),
    "linear": lambda: nn.Linear(16, 32),
}


def markdown() -> str:
    """One row a layer kind, one column a method of peft: "yes", "no merge" (trains, cannot be merged), or "no"."""
    options = MethodOptions(rank=4, oft_block=4)
    methods = [name for name, method in METHODS.items() if method.by_peft and name != "filter-subspace"]
    lines = [["layer", *methods], ["---"] * (len(methods) + 1)]
    lines += [
        [kind, *(try_adapter(method, make(), options).word for method in methods)] for kind, make in KINDS.items()
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    print(markdown())
