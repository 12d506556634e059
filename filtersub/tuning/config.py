"""One config line: which layers, which recipe, what is saved."""

from __future__ import annotations

from dataclasses import dataclass, field

from peft.config import PeftConfig

from ..decomposition import DecompositionConfig
from ..settings import taken_from

METHOD = "filter_subspace"


@dataclass
class FilterSubspaceConfig(PeftConfig):
    """Tune filter atoms only: the weight of each layer is ``F + alpha x dD``, alpha frozen, dD zero at the start.

    Setting 1 of the paper is the default (spatial kernels); setting 3 adds ``block``. Source: Chen, Miao and Qiu,
    "Large Convolutional Model Tuning via Filter Subspace", ICLR 2025 (arXiv:2403.00269).

    Parameters
    ----------
    atoms, block, block_spatial, solver, sparsity, nonzeros, max_rounds, tol, seed
        The recipe of the decomposition, see DecompositionConfig.
    target_modules : list of names or name endings, or one regular expression; default every layer that takes part
    but the
        head. Modules that match but cannot be decomposed are passed over.
    exclude_modules : names or a regular expression, left out
    modules_to_save : modules that are trained and saved whole: the head
    save_coefficients : store alpha in the saved adapter too. Without it a saved adapter holds atoms alone; alpha is
    made
        again from the base weights by the recipe when it is loaded, and checked against a fingerprint.
    save_batch_norm : running statistics of batch norm belong to the adapter (set it where training updated them)
    """

    target_modules: list[str] | str | None = field(default=None)
    exclude_modules: list[str] | str | None = field(default=None)
    modules_to_save: list[str] | None = field(default=None)
    atoms: int = field(default=9)
    block: int | tuple[int, int] | None = field(default=None)
    block_spatial: bool = field(default=False)
    solver: str = field(default="lasso")
    sparsity: float = field(default=1e-3)
    nonzeros: int | None = field(default=None)
    max_rounds: int = field(default=100)
    tol: float = field(default=1e-4)
    seed: int = field(default=0)
    save_coefficients: bool = field(default=False)
    save_batch_norm: bool = field(default=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = METHOD.upper()
        if isinstance(self.block, list):  # JSON knows no tuples
            self.block = tuple(self.block)
        _ = self.recipe  # validates

    @property
    def recipe(self) -> DecompositionConfig:
        """How the coefficients are made from the base weights."""
        return taken_from(self, DecompositionConfig)
