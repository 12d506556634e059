"""Public names of a package, loaded when first used: who reads tables needs neither peft nor the training loop."""

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any


def lazy_attributes(
    package: str, **names: tuple[str, ...]
) -> tuple[list[str], Callable[[str], Any], Callable[[], list[str]]]:
    """``__all__``, ``__getattr__`` and ``__dir__`` of a package, given its modules with the public names of each.

    >>> lazy_attributes("filtersub", errors=("FiltersubError",))[0]
    ['FiltersubError']
    """
    home = {name: module for module, its_names in names.items() for name in its_names}

    def load(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f".{home[name]}", package), name)

    def known() -> list[str]:
        return sorted({*vars(sys.modules[package]), *home})

    return sorted(home), load, known
