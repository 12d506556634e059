"""Trained parameters of a run by a reading, from layer shapes alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from ..decomposition.recipe import DecompositionConfig
from ..errors import FiltersubError
from ..parameters.baselines import BaselineOptions
from ..parameters.result import ParameterCount
from ..settings import select_fields
from .readings import Part, method_settings

if TYPE_CHECKING:
    from torch import Tensor, nn

_UNCOUNTED = ("seed", "l1_penalty", "max_rounds", "tol")  # of a recipe: what is learnt, not how much of it
#: all that a count depends on beside the model
COUNTED = (
    *("method", "train_coefficients", "layers", "overrides"),
    *(f.name for kind in (DecompositionConfig, BaselineOptions) for f in fields(kind) if f.name not in _UNCOUNTED),
)


def count_settings(
    module: nn.Module | Mapping[str, Tensor], values: Mapping[str, Any], name: str | None = None
) -> ParameterCount:
    """Count what tuning settings train in a model, called ``name`` in the result. Settings that are not in COUNTED are
    ignored. Raises FiltersubError as count_parameters.
    """
    from ..parameters import count_parameters

    values = {name: value for name, value in values.items() if name in COUNTED}
    method = "coefficients" if values.get("train_coefficients") else str(values["method"])
    return count_parameters(
        module,
        method,
        recipe=select_fields(values, DecompositionConfig),
        options=select_fields(values, BaselineOptions),
        layers=values.get("layers"),
        overrides=values.get("overrides"),
        name=name,
    )


def count_run(
    part: Part, run: str, reading: str, *, model: str | None = None, classes: int | None = None, **sizes: Any
) -> ParameterCount:
    """Count a run of the paper by a reading, on its own model or another one, with a new head of ``classes``; ``sizes``
    are m, m_1, k_c or a rank other than the run's own, by the names of TuneSettings.

    Raises FiltersubError where the reading names layers that the model does not have.
    """
    from ..parameters import architecture

    values, name = method_settings(part, run, reading, **sizes), model or part.model
    module = architecture(name, classes)
    if values["method"] == "none":
        total = sum(p.numel() for p in module.parameters())
        return ParameterCount(name, "none", 0, 0, total)
    try:
        return count_settings(module, values, name)
    except FiltersubError as error:
        if values.get("layers") is None or "layers" not in part.rule(run, reading):
            raise
        raise FiltersubError(
            f"the reading {reading!r} of {part.name}/{run} is of {part.model}, and its layers "
            f"{values['layers']!r} do not fit {name}: {error}"
        ) from None
