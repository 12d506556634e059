"""What a count says: a layer's share, a model's sum, by stage and as tables."""

from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from ..markup import facts_html, table_html
from ..percentages import percentage

BYTES = 4  # of a float32 number
ADAM_STATES = 2  # running mean and mean square of each gradient
LAYER_COLUMNS = ("name", "kind", "shape", "block", "atoms", "trainable", "coefficients")


@dataclass(frozen=True)
class LayerCount:
    """One layer's share.

    Attributes
    ----------
    atoms : its number of filter atoms (0 for other methods)
    trainable : parameters that the method trains in it
    coefficients : entries of alpha, n_rows x n_atoms, which are frozen (0 for other methods)
    block : (p, q), output and input channels joined in one patch
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    atoms: int
    trainable: int
    coefficients: int = 0
    block: tuple[int, int] = (1, 1)


@dataclass(frozen=True)
class ParameterCount:
    """Parameters that a method trains in a model.

    Attributes
    ----------
    trainable : int, without the head
    head : int, the classification head's own (0 where the model has none)
    total : int, the model's own parameters, head included
    layers : the layers that take part
    """

    model: str
    method: str
    trainable: int
    head: int
    total: int
    layers: tuple[LayerCount, ...] = ()

    @property
    def fraction(self) -> float:
        """Trained parameters without the head, over the model's own."""
        return self.trainable / self.total if self.total else 0.0

    @property
    def coefficients(self) -> int:
        """Entries of all alpha together."""
        return sum(layer.coefficients for layer in self.layers)

    def to_json(self) -> dict[str, Any]:
        layers = [{**asdict(layer), "shape": list(layer.shape), "block": list(layer.block)} for layer in self.layers]
        sums = {"fraction": self.fraction, "coefficients": self.coefficients}
        return {**asdict(self), **sums, "layers": layers}

    def _repr_html_(self) -> str:
        """The counts and the layers, for notebooks."""
        facts = [
            (
                "trained without head",
                f"{self.trainable:,} ({percentage(self.fraction, 3)} of the model's {self.total:,})",
            ),
            ("head", f"{self.head:,}"),
            ("frozen coefficients", f"{self.coefficients:,}" if self.coefficients else ""),
        ]
        rows = [(layer.name, layer.kind, layer.shape, layer.atoms, f"{layer.trainable:,}") for layer in self.layers]
        table = table_html(("layer", "kind", "shape", "atoms", "trained"), rows) if rows else ""
        return facts_html(f"{self.model}, {self.method}", facts, table)

    def table(self) -> pd.DataFrame:
        """One row a layer: name, kind, shape, block, atoms, trainable, coefficients."""
        return pd.DataFrame([asdict(layer) for layer in self.layers], columns=list(LAYER_COLUMNS))

    def stages(self) -> pd.DataFrame:
        """One row a stage, in the order of the model: stage, layers, atoms, trainable, coefficients, share."""
        table = self.table()
        table = table.assign(stage=[stage_of(name) for name in table["name"]], layers=1)
        summed = (
            table.groupby("stage", sort=False)[["layers", "atoms", "trainable", "coefficients"]].sum().reset_index()
        )
        return summed.assign(share=summed["trainable"] / max(self.trainable, 1))


def stage_of(name: str) -> str:
    """The stage that a layer's name speaks of: up to its first part that ends in a number, else the first part.

    >>> [stage_of(name) for name in ("layer1.0.conv2", "stages.2.blocks.3.conv_dw", "conv_stem", "features.0")]
    ['layer1', 'stages.2', 'conv_stem', 'features']
    """
    *outer, last = name.split(".")
    numbered = next((i for i, part in enumerate(outer, 1) if part[-1:].isdigit()), 1)
    return ".".join(outer[:numbered]) or last
