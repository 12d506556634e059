"""One config line: which layers, which recipe, what is trained, what is saved."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from peft.config import PeftConfig
from peft.utils import PeftType

from ..decomposition import DecompositionConfig
from ..dictionary import MAX_ROUNDS, TOL
from ..errors import FiltersubError
from ..kernels import KernelLayout
from ..settings import taken_from

METHOD = "filter_subspace"


@dataclass
class FilterSubspaceConfig(PeftConfig):
    """Tune filter atoms only: the weight of each layer is ``F + alpha x dD``, alpha frozen, dD zero at the start.

    The paper's settings (Chen, Miao and Qiu, arXiv:2403.00269, validation experiment):

    1. the default: dD of spatial kernels
    2. ``expansion=m_1``: dD = d-alpha_1 x dD_1 on spatial kernels, both trained, dD_1 zero at the start
    3. ``block=k_c``: setting 1, and dD_c of 1x1 kernels and linear layers in blocks of channels
    4. ``expansion=m_1, block=k_c``: setting 2 on spatial kernels, dD_c (never expanded) on the others

    Parameters
    ----------
    atoms, block, block_spatial, solver, sparsity, nonzeros, max_rounds, tol, seed, nonnegative, init, learner
        The recipe of the decomposition, see DecompositionConfig. The seed also draws d-alpha.
    expansion : m_1, or (m_1, m_2, ...) for atoms of atoms of atoms. Every level of coefficients below alpha is trained,
        Kaiming uniform with its own number of summands as fan-in; the atoms of the last level are trained from zero.
    expansion_coefficients : "shared" or "per-channel": d-alpha_1 (m, m_1), or one for each input channel (c', m, m_1)
    train_coefficients : a control for the claim that alpha should stay frozen: d-alpha (as large as alpha: n_rows x m
        parameters a layer, m / d times the weight's) is trained from zero too, ``F + alpha x dD + d-alpha x D``
    target_modules : list of names or name endings, one regular expression, or a preset of tuning.targets.PRESETS
        ("spatial", "pointwise", "depthwise", "stage1" to "stage4", "unet-resnets"); default every layer that takes part
        but the head. Modules that match but cannot be decomposed are passed over.
    exclude_modules : names or a regular expression, left out
    modules_to_save : modules that are trained and saved whole: the head
    hold_coefficients : keep alpha in memory; default unless its codes are linear (pca, ridge), where alpha = F V needs
        V (d, m) alone: dF = F (V dD)
    recompute_weights : in training, make the summed weights ``F + alpha x dD`` again in the backward pass, which costs
        a pass over each, or keep them, which costs their memory; default: again where those of the model together take
        more than 512 MiB
    save_coefficients : store alpha in the saved adapter too. Without it a saved adapter holds atoms alone; alpha is
        made again from the base weights by the recipe when it is loaded, and checked against a fingerprint.
    save_batch_norm : the adapter has running statistics of batch norm of its own, switched with it, and saved with it
        where training has moved them; without it all adapters share the base model's
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
    max_rounds: int = field(default=MAX_ROUNDS)
    tol: float = field(default=TOL)
    seed: int = field(default=0)
    nonnegative: bool = field(default=False)
    init: str = field(default="rows")
    learner: str = field(default="alternating")
    expansion: int | tuple[int, ...] | None = field(default=None)
    expansion_coefficients: str = field(default="shared")
    train_coefficients: bool = field(default=False)
    hold_coefficients: bool | None = field(default=None)
    recompute_weights: bool | None = field(default=None)
    save_coefficients: bool = field(default=False)
    save_batch_norm: bool = field(default=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = PeftType(METHOD.upper())
        for name in ("block", "expansion"):  # JSON knows no tuples
            if isinstance(getattr(self, name), list):
                setattr(self, name, tuple(getattr(self, name)))
        _ = self.recipe  # validates
        if self.hold_coefficients is False and not self._linear:
            raise FiltersubError(
                f"solver {self.solver!r} has codes that are no linear map of the kernels, so they must be held; "
                "leave hold_coefficients at None, or use solver='pca'"
            )
        if self.hold_coefficients is False and self.save_coefficients:
            raise FiltersubError("coefficients that are not held cannot be saved; drop save_coefficients")

    @property
    def recipe(self) -> DecompositionConfig:
        """How the coefficients are made from the base weights, and how their atoms are expanded."""
        return taken_from(self, DecompositionConfig)

    @property
    def coding_recipe(self) -> DecompositionConfig:
        """The part of the recipe that determines the coefficients alpha."""
        return replace(self.recipe, expansion=None, expansion_coefficients="shared")

    @property
    def holds_coefficients(self) -> bool:
        if self.hold_coefficients is None:
            return self.save_coefficients or not self._linear
        return self.hold_coefficients

    def expansion_of(self, layout: KernelLayout) -> tuple[int, ...]:
        """(m_1, m_2, ...) of a layer: spatial kernels alone are expanded."""
        return self.recipe.expansion_sizes if layout.is_spatial else ()

    @property
    def _linear(self) -> bool:
        return self.recipe.code_kind == "linear"
