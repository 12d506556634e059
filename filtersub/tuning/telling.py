"""Which layer comes is told before it is decomposed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Tell = Callable[[str], None]
_current: ContextVar[Tell | None] = ContextVar("tells which layer comes", default=None)


@contextmanager
def telling(on_layer: Callable[[int, int, str], None] | None, n_layers: int) -> Iterator[None]:
    """Within, ``on_layer`` is called with (layers done, layers in all, name) before each layer is decomposed."""
    done = 0

    def tell(name: str) -> None:
        nonlocal done
        if on_layer is not None:
            on_layer(done, n_layers, name)
        done += 1

    token = _current.set(tell)
    try:
        yield
    finally:
        _current.reset(token)


def tell(name: str) -> None:
    """Say which layer comes, to whoever listens."""
    listener = _current.get()
    if listener is not None:
        listener(name)
