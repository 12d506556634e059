"""The global random states: of Python, NumPy and torch, kept, put back, and set for a moment."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def random_states() -> dict[str, Any]:
    """All of them as plain values, which a safe file can hold."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002 (the global state: data sets may draw from it)
    states = {"torch": torch.get_rng_state(), "python": random.getstate(), "numpy": (kind, keys.tolist(), *rest)}
    return states | ({"cuda": torch.cuda.get_rng_state_all()} if torch.cuda.is_available() else {})


def set_random_states(states: dict[str, Any]) -> None:
    """Put back what random_states gave."""
    torch.set_rng_state(states["torch"])
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])  # noqa: NPY002
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])


@contextmanager
def seeded(*entropy: int) -> Iterator[None]:
    """What is drawn inside on the CPU depends on these numbers (>= 0) alone; outside nothing is seen of it.

    Transforms of torchvision and timm draw from the global states of torch, Python and NumPy. A GPU's state is left
    alone.
    """
    kept = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    words = np.random.SeedSequence(entropy).generate_state(4)
    torch.default_generator.manual_seed(int(words[0]) << 32 | int(words[1]))
    random.seed(int(words[2]))
    np.random.seed(int(words[3]))  # noqa: NPY002
    try:
        yield
    finally:
        torch.set_rng_state(kept[0])
        random.setstate(kept[1])
        np.random.set_state(kept[2])  # noqa: NPY002
