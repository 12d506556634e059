"""Shared, small and real: a network with every layer kind, kernels with planted atoms."""

from __future__ import annotations

import functools
import gc
import os
import re
import signal
from collections.abc import Callable, Iterator
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch
import typer.testing
import warm
from browser import chromium
from torch import Tensor, nn

from filtersub.ablation import kept_results, run_slot
from filtersub.ablation.notebook_file import import_nbformat
from filtersub.ablation.warm_start import AVAILABLE

SHARED = "FILTERSUB_TESTS_WARM_PROCESS"  # its address, for the workers of pytest-xdist
import_nbformat()  # here too, before any test imports it
# torch.compile would compile and run a program for each vector unit first, to see that it is there.
os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "1")
# A runner builds every command anew for each call, which takes longer than most calls.
typer.testing._get_command = functools.cache(typer.testing._get_command)


@pytest.fixture(scope="module", autouse=True)
def little_garbage_to_look_through() -> None:
    """Each training run collects garbage once, and would look through all that the imports and the files before have
    made: half a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> Iterator[None]:
    """Shells start background jobs with Ctrl-C ignored, and children inherit that: tests of interrupts would hang."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def no_results_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dry runs inside this process count anew, and leave nothing in the user's cache."""
    monkeypatch.setattr(kept_results, "cache_file", lambda: None)


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    """A test that leaves torch another number of threads changes the rounding of every test after it."""
    before = torch.get_num_threads()
    yield
    left = torch.get_num_threads()
    torch.set_num_threads(before)
    assert left == before, f"the test began with {before} threads of torch and left {left}"


def pytest_configure(config: pytest.Config) -> None:
    """The workers of a run of all tests share one warm process, which begins to import while they collect."""
    whole = config.args_source is not pytest.Config.ArgsSource.ARGS
    if AVAILABLE and whole and getattr(config.option, "numprocesses", None):  # which a worker's options lack
        process = warm.Warm({**os.environ, "HF_HUB_OFFLINE": "1"})
        config.add_cleanup(process.close)
        os.environ[SHARED] = process.address


@pytest.fixture(scope="session")
def warm_process() -> Iterator[Any]:
    """A process that has imported what takes seconds to import; None where processes may not be forked."""
    if not AVAILABLE:
        yield None
    elif address := os.environ.pop(SHARED, None):
        yield warm.Shared(address)
    else:
        process = warm.Warm({**os.environ, "HF_HUB_OFFLINE": "1"})
        yield process
        process.close()


@pytest.fixture
def shared_warm_process(warm_process: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ablations of this test fork their notebooks from the session's warm process instead of one of their own."""

    class Shared:
        runs = 0  # counted by its owner

        def ask(self, request: dict[str, Any]) -> int | None:
            return warm_process.ask({**request, "environment": {**os.environ, **request["environment"]}})

        def close(self) -> None:
            """The session ends it."""

    def forked(ablation: str, threads: dict[str, int], warm: bool, environment: dict[str, str]) -> run_slot.Terms:
        return run_slot.Terms(ablation, threads, True, environment)  # a run that is alone too: the process is there

    monkeypatch.setattr(run_slot, "WarmStart", lambda environment: Shared())
    monkeypatch.setattr("filtersub.ablation.run.Terms", forked)


@pytest.fixture
def light_warm_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ablations of this test have warm processes of their own, which import little beside torch."""
    monkeypatch.setattr(run_slot.WarmStart, "SERVER", (str(warm.LIGHT), "torch"))


@pytest.fixture
def filtersub(warm_process: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., CompletedProcess[str]]:
    """Calls ``python -m filtersub`` with these arguments, in a process of its own."""

    def call(*arguments: object, cwd: os.PathLike[str] | None = None) -> CompletedProcess[str]:
        environment = {**os.environ, "COLUMNS": "200", "HF_HUB_OFFLINE": "1"}
        folder = tmp_path_factory.mktemp("output")
        return warm.run_command(warm_process, [*map(str, arguments)], folder, cwd=cwd, env=environment)

    return call


@pytest.fixture
def run_code(warm_process: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., CompletedProcess[str]]:
    """Calls ``python -c CODE`` with these arguments and variables, in a process of its own that needs no imports."""

    def call(code: str, *arguments: object, **variables: str) -> CompletedProcess[str]:
        environment, folder = {**os.environ, **variables}, tmp_path_factory.mktemp("output")
        return warm.run_code(warm_process, code, [*map(str, arguments)], folder, cwd=None, env=environment)

    return call


@pytest.fixture
def begin(warm_process: Any) -> Callable[..., Any]:
    """Begins ``python -c CODE`` with these arguments in a process of its own, which may be killed; see warm.begin."""
    return lambda code, *arguments: warm.begin(warm_process, code, [*map(str, arguments)])


@pytest.fixture
def launched(warm_process: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., CompletedProcess[str]]:
    """Calls ``python -m LAUNCHER ... RUN``; see warm.launched. The processes train on the CPU with one thread each."""

    def call(launcher: list[str], *run: object) -> CompletedProcess[str]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
        return warm.launched(warm_process, launcher, [*map(str, run)], tmp_path_factory.mktemp("output"), environment)

    return call


class EveryKind(nn.Module):
    """A small image classifier that holds one of each layer kind the method covers."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.strided = nn.Conv2d(8, 8, 3, stride=2, padding=1, padding_mode="reflect", bias=False)
        self.grouped = nn.Conv2d(8, 12, 3, padding=2, dilation=2, groups=4)
        self.depthwise = nn.Conv2d(12, 12, 5, padding=2, groups=12)
        self.pointwise = nn.Conv2d(12, 16, 1)
        self.transposed = nn.ConvTranspose2d(16, 8, 3, stride=2, groups=2)
        self.norm = nn.BatchNorm2d(8)
        self.sequence = nn.Conv1d(8, 8, 3, padding=1)
        self.volume = nn.Conv3d(1, 2, (1, 3, 3), padding=(0, 1, 1))
        self.mix = nn.Linear(16, 12)
        self.classifier = nn.Linear(12, classes)

    def forward(self, images: Tensor) -> Tensor:
        x = torch.relu(self.grouped(torch.relu(self.strided(torch.relu(self.stem(images))))))
        x = self.norm(torch.relu(self.transposed(torch.relu(self.pointwise(self.depthwise(x))))))
        x = x + self.sequence(x.flatten(2)).view_as(x)
        x = self.volume(x[:, None]).flatten(1, 2).mean((2, 3))
        return self.classifier(torch.relu(self.mix(x)))


SPATIAL = ("stem", "strided", "grouped", "depthwise", "transposed", "sequence", "volume")
POINTWISE = ("pointwise", "mix")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    with chromium() as running:
        yield running


@pytest.fixture
def every_kind() -> EveryKind:
    torch.manual_seed(0)
    return EveryKind().eval()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(1))


def planted(n_rows: int, n_atoms: int, size: int, nonzeros: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """(rows, atoms, codes) in float64: rows that are sparse in unit-norm atoms, exactly."""
    generator = torch.Generator().manual_seed(seed)
    atoms = torch.randn(n_atoms, size, generator=generator, dtype=torch.float64)
    atoms = atoms / atoms.norm(dim=1, keepdim=True)
    codes = torch.randn(n_rows, n_atoms, generator=generator, dtype=torch.float64)
    keep = torch.rand(n_rows, n_atoms, generator=generator).argsort(1) < nonzeros
    codes = torch.where(keep, codes + codes.sign(), 0.0)
    return codes @ atoms, atoms, codes


_FETCHING = re.compile(
    r"""<(?:script|img|link|iframe|source|video|audio|embed|object|image|use)\b[^>]*?
        \b(?:src|href|xlink:href|data|srcset)\s*=\s*["']?\s*(?!data:|\#)([^"'\s>]+)
        |url\(\s*["']?(?!data:|\#)([^"')]+)|@import\s+["']?([^"';]+)""",
    re.I | re.X,
)


def external_references(page: str) -> list[str]:
    """What a page would fetch from elsewhere when it is opened; links that a reader may follow do not count."""
    # code is not markup, and the page's policy holds what it may fetch
    markup = re.sub(r"(<script\b[^>]*>).*?(?=</script>)", r"\1", page, flags=re.S)
    return [next(filter(None, found)) for found in _FETCHING.findall(markup)]
