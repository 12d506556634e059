"""Does a ranking without training agree with training? The criterion beside the accuracies of tuning records."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from .data import first_images, load_data, n_classes
from .decomposition import DecompositionConfig, plan_layers
from .errors import FiltersubError
from .models import head_name, input_statistics, load_model
from .parameters import GradientEnergy
from .records import Record, read_records
from .settings import check_whole

_REGIME = (
    *("data", "n_train", "epochs", "batch_size", "image_size", "validation", "batch_norm", "optimizer"),
    *("pretrained", "weights"),
)
_METRICS = ("test_accuracy", "validation_accuracy")
_OURS = "filter-subspace"


@dataclass(frozen=True)
class Agreement:
    """Scores beside measured accuracies.

    ``table``: one row a setting (seeds averaged), by accuracy: label, runs, trainable, score, accuracy.
    ``spearman``: rank correlation of score and accuracy; ``spearman_of_count`` the same of the trained parameters, the
    ranking that needs no gradient; both also among the settings of the method alone (``_of_atoms``), since that linear
    probing is worst and full tuning best is no achievement.
    """

    table: pd.DataFrame
    spearman: float
    spearman_of_count: float
    spearman_of_atoms: float
    spearman_of_count_of_atoms: float

    @property
    def sentence(self) -> str:
        settings, atoms = len(self.table), int(self.table["by_atoms"].sum())
        return (
            f"rank correlation with measured accuracy (Spearman) over {settings} settings: score {self.spearman:.3f}, "
            f"count alone {self.spearman_of_count:.3f}; over the {atoms} of them that tune atoms: score "
            f"{self.spearman_of_atoms:.3f}, count alone {self.spearman_of_count_of_atoms:.3f}"
        )

    def to_json(self) -> dict[str, Any]:
        numbers = {name: value for name, value in vars(self).items() if name != "table"}
        numbers = {name: None if math.isnan(value) else value for name, value in numbers.items()}
        return {**numbers, "settings": self.table.to_dict("records")}


def gradient_energy(
    model: str,
    data: str = "digits",
    *,
    weights: str | os.PathLike[str] | None = None,
    image_size: int = 48,
    n_images: int = 200,
) -> GradientEnergy:
    """The criterion for a pretrained model on a data set, both by name; validation and test images stay unseen.

    Raises FiltersubError, before the model is loaded, unless ``n_images`` is a whole number from 1.
    """
    check_whole("n_images", n_images, 1)
    loaded = load_model(model, weights=weights, num_classes=n_classes(data))
    mean, std = input_statistics(loaded)
    train = load_data(data, size=image_size, mean=mean, std=std, validation=True).train
    return GradientEnergy(loaded, *first_images(train, n_images))


def agreement(energy: GradientEnergy, folders: Sequence[str | os.PathLike[str]], model: str) -> Agreement:
    """Score the tuning records of ``model`` below the folders and correlate the ranks.

    Accuracies compare only where data, image size, epochs and batch norm are alike: of several such regimes the one
    with most runs is taken.

    Raises FiltersubError where fewer than three settings were measured.
    """
    tuned: dict[tuple[object, ...], list[Record]] = {}  # by regime
    for folder in folders:
        for record in read_records(folder)[0].values():
            if record.kind == "tuning" and record.parameters.get("model") == model:
                regime = tuple(record.parameters.get(name) for name in _REGIME)
                tuned.setdefault(regime, []).append(record)
    rows = []
    for record in max(tuned.values(), key=len, default=[]):
        accuracy = next((record.metrics[name] for name in _METRICS if name in record.metrics), None)
        score = None if accuracy is None else _score(energy, record)
        if score is not None:
            own = {"label": record.label, "layers": record.parameters.get("layers")}
            own |= {"trainable": record.counts["trainable"], "by_atoms": record.parameters["method"] == _OURS}
            rows.append({**own, "score": score, "accuracy": accuracy})
    keys = ["label", "layers", "trainable", "by_atoms"]
    measured = pd.DataFrame(rows, columns=[*keys, "score", "accuracy"]).groupby(keys, dropna=False)
    # seeds learn atoms of their own, so that the score has a mean too
    table = measured.agg(runs=("score", "size"), score=("score", "mean"), accuracy=("accuracy", "mean")).reset_index()
    table = table.sort_values("accuracy", ignore_index=True)
    if len(table) < 3:
        where = ", ".join(map(str, folders))
        raise FiltersubError(f"{where} holds {len(table)} tuned settings of {model}; ranks need at least three")
    atoms = table[table["by_atoms"]]
    return Agreement(
        table,
        spearman(table["score"], table["accuracy"]),
        spearman(table["trainable"], table["accuracy"]),
        spearman(atoms["score"], atoms["accuracy"]),
        spearman(atoms["trainable"], atoms["accuracy"]),
    )


def spearman(one: pd.Series, other: pd.Series) -> float:
    """Spearman's rank correlation, ties at their mean rank; NaN for fewer than two values.

    >>> round(spearman(pd.Series([1, 2, 3]), pd.Series([10, 30, 20])), 3)
    0.5
    """
    if len(one) < 2:
        return float("nan")
    return float(one.rank().corr(other.rank()))


def _score(energy: GradientEnergy, record: Record) -> float | None:
    """None for methods that the criterion does not know."""
    settings = record.parameters
    if settings["method"] in ("linear", "full"):
        return float(settings["method"] == "full")
    if settings["method"] != _OURS:
        return None
    known = DecompositionConfig.__dataclass_fields__
    recipe = DecompositionConfig(**{name: value for name, value in settings.items() if name in known})
    head = head_name(energy.model)
    exclude = () if head is None else (head,)
    chosen = {name: settings.get(name) for name in ("layers", "overrides")}
    plan = plan_layers(energy.model, recipe, exclude=exclude, **chosen)
    if any(layer.recipe.block_coefficients for layer in plan.values()):
        return None  # what atoms of alpha can follow is not scored
    return sum(energy.score(layer.recipe, [name]) for name, layer in plan.items())
