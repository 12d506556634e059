"""The learning rate by validation images, as VTAB-1k does: each candidate trains on 800 images and is judged on 200."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import FiltersubError, LossNotFinite
from ..records import Record

CHOICE_FOLDER = "choice"


@dataclass(frozen=True)
class RateChoice:
    """``tried``: validation accuracy by learning rate, in the order tried; None where the loss was not finite."""

    tried: dict[float, float | None]

    @property
    def chosen(self) -> float:
        """The rate of the highest accuracy; of equal ones the lowest. FiltersubError where no rate trained at all."""
        accuracies = {rate: value for rate, value in self.tried.items() if value is not None}
        if not accuracies:
            tried = ", ".join(f"{rate:g}" for rate in self.tried)
            raise FiltersubError(f"no learning rate of {tried} trained to the end; give lower ones")
        return min(accuracies, key=lambda rate: (-accuracies[rate], rate))

    def to_json(self) -> dict[str, Any]:
        candidates = [{"learning_rate": rate, "validation_accuracy": value} for rate, value in self.tried.items()]
        return {"learning_rate": {"chosen": self.chosen, "candidates": candidates}}


def choose_rate(
    rates: tuple[float, ...], out: str | os.PathLike[str], run: Callable[[float, Path], Record]
) -> RateChoice:
    """Run every rate in a folder of its own below ``out``/choice; finished ones are read back, as any run is.

    ``run`` makes the run of a rate in a folder, on the validation split. One whose loss is not finite counts as failed.
    Reference: Zhai et al., "The visual task adaptation benchmark", arXiv:1910.04867.
    """
    tried: dict[float, float | None] = {}
    for rate in rates:
        try:
            tried[rate] = run(rate, Path(out) / CHOICE_FOLDER / f"{rate:g}").metrics["validation_accuracy"]
        except LossNotFinite:
            tried[rate] = None
    return RateChoice(tried)
