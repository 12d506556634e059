"""How far a loop is: a bar that shows it, a line for what comes before it, and whom to tell which layer comes."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

FROM = 0.1  # share of the work that must be done before the time left is told: the pace is not known earlier
Tell = Callable[[str], None]
_current: ContextVar[Tell | None] = ContextVar("tells which layer comes", default=None)


@contextmanager
def progress_bar(first: str = "") -> Iterator[Callable[[int, int, str], None]]:
    """A bar on standard error, and what moves it: (done, in all, name). Nothing where that is not a terminal.

    ``first`` is said until it is moved for the first time. The times are those since the start and until the end.

    >>> with progress_bar() as on_layer:
    ...     for done, name in enumerate(("stem", "head")):
    ...         on_layer(done, 2, name)
    """
    from rich import progress as bars
    from rich.console import Console

    columns = (bars.BarColumn(), bars.MofNCompleteColumn(), bars.TimeElapsedColumn(), bars.TimeRemainingColumn())
    name = bars.TextColumn("{task.description}", markup=False)
    console = Console(stderr=True)
    # rich forgets steps that are older than half a minute, and then knows no pace where a layer takes longer
    shown = {"transient": True, "disable": not console.is_terminal, "speed_estimate_period": math.inf}
    with bars.Progress(*columns, name, console=console, **shown) as progress:
        task = progress.add_task(first, total=None)
        yield lambda done, total, name: progress.update(task, completed=done, total=total, description=name)


@contextmanager
def waiting(what: str) -> Iterator[Callable[[], None]]:
    """``what``, with a sign of life, on standard error until the block ends or the function that it is given is called.

    Nothing where that is not a terminal.
    """
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda: None
        return
    with console.status(Text(f"{what} ...")) as status:
        yield status.stop


def clock(seconds: float) -> str:
    """Minutes and seconds.

    >>> clock(125.4)
    '2:05'
    """
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"


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
