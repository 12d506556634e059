"""One config line: which layers, which recipe, what is trained, what is saved."""

from __future__ import annotations

from dataclasses import InitVar, dataclass, replace
from typing import Any, ClassVar

from peft.config import PeftConfig
from peft.utils import PeftType

from ..decomposition import DecompositionConfig
from ..decomposition.recipe import check_expansion_start, check_no_conflict, check_overrides, recipe_of
from ..errors import FiltersubError
from ..setting_fields import RecipeFields, StartFields
from ..settings import check_types, select_fields

METHOD = "filter_subspace"


@dataclass
class FilterSubspaceConfig(PeftConfig):
    """Tune filter atoms only: the weight of each layer is ``F + alpha x dD``, alpha frozen, dD zero at the start.

    The paper's settings (Chen, Miao and Qiu, arXiv:2403.00269, validation experiment):

    1. the default: dD of spatial kernels
    2. ``expansion=m_1``: dD = d-alpha_1 x dD_1 on spatial kernels, both trained, dD_1 zero at the start
    3. ``block=k_c``: setting 1, and dD_c of 1x1 kernels and linear layers in blocks of channels
    4. ``expansion=m_1, block=k_c``: setting 2 on spatial kernels, dD_c (not expanded) on the others. Or, as section 4.5
       has it, ``block_coefficients=True``: setting 2 and dD_c of alpha's own blocks on every layer

    Parameters
    ----------
    atoms, block, block_spatial, solver, l1_penalty, nonzeros, max_rounds, tol, seed, nonnegative, init, learner,
    limit_atoms, expansion, expansion_coefficients, expansion_layers
        The recipe of the decomposition, see DecompositionConfig. The seed also draws d-alpha. Of expanded atoms every
        level of coefficients below alpha is trained, and the atoms of the last level, from zero.
    block_coefficients : alpha itself is decomposed in blocks, alpha = alpha_c x D_c, and dD_c is trained from zero
        beside dD: the weight is ``F + alpha x dD + (alpha_c x dD_c) x (D + dD)``
    expansion_init, init_scale : how d-alpha_l starts, see codes.start_of_expansion, and a positive factor on it
    overrides : settings of the recipe by pattern of layer names, ``{"layer4": {"atoms": 12}}``. A pattern that matches
        no layer that is tuned, and two that give one layer different values, are errors.
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

    target_modules: list[str] | str | None = None
    exclude_modules: list[str] | str | None = None
    modules_to_save: list[str] | None = None
    atoms: int = RecipeFields.atoms
    block: int | tuple[int, int] | None = RecipeFields.block
    block_spatial: bool = RecipeFields.block_spatial
    solver: str = RecipeFields.solver
    l1_penalty: float = RecipeFields.l1_penalty
    sparsity: InitVar[float | None] = None  # the name of l1_penalty in adapters of before
    nonzeros: int | None = RecipeFields.nonzeros
    max_rounds: int = RecipeFields.max_rounds
    tol: float = RecipeFields.tol
    seed: int = RecipeFields.seed
    nonnegative: bool = RecipeFields.nonnegative
    init: str = RecipeFields.init
    learner: str = RecipeFields.learner
    expansion: int | tuple[int, ...] | None = RecipeFields.expansion
    expansion_coefficients: str = RecipeFields.expansion_coefficients
    expansion_layers: str = RecipeFields.expansion_layers
    expansion_init: str = StartFields.expansion_init
    init_scale: float = StartFields.init_scale
    block_coefficients: bool = RecipeFields.block_coefficients
    limit_atoms: bool = RecipeFields.limit_atoms
    overrides: dict[str, dict[str, Any]] | None = StartFields.overrides
    train_coefficients: bool = StartFields.train_coefficients
    hold_coefficients: bool | None = None
    recompute_weights: bool | None = None
    save_coefficients: bool = False
    save_batch_norm: bool = True
    was_saved: ClassVar[bool] = False  # of one config: read from a folder
    awaits_coefficients: ClassVar[bool] = False  # of one config: read from a folder that holds them

    def __post_init__(self, sparsity: float | None) -> None:
        super().__post_init__()
        if sparsity is not None:
            self.l1_penalty = sparsity
        self.peft_type = PeftType(METHOD.upper())
        for name in ("block", "expansion"):  # JSON knows no tuples
            if isinstance(getattr(self, name), list):
                setattr(self, name, tuple(getattr(self, name)))
        check_types(self)
        self.overrides = check_overrides(self.overrides) or None
        self._check_held(self.recipe)  # which validates
        check_expansion_start(self.expansion_init, self.init_scale)
        if self.hold_coefficients is False and self.save_coefficients:
            raise FiltersubError("coefficients that are not held cannot be saved; drop save_coefficients")

    @classmethod
    def from_pretrained(cls, *folder: Any, **options: Any) -> FilterSubspaceConfig:
        """The config of a saved adapter, as peft reads it. Coefficients that lie beside it are not made before they are
        read."""
        config = super().from_pretrained(*folder, **options)
        config.was_saved = True
        config.awaits_coefficients = config.save_coefficients
        return config

    @property
    def recipe(self) -> DecompositionConfig:
        """How the coefficients are made from the base weights, and how their atoms are expanded."""
        return select_fields(vars(self), DecompositionConfig)

    def recipe_of(self, name: str) -> DecompositionConfig:
        """The recipe of one layer by its name in the base model, its overrides applied.

        Raises FiltersubError where they conflict, or make a recipe that cannot be.
        """
        check_no_conflict(name, self.overrides or {})
        recipe = recipe_of(name, self.recipe, self.overrides or {})
        self._check_held(recipe)
        return recipe

    def holds(self, recipe: DecompositionConfig) -> bool:
        """Whether a layer of this recipe keeps alpha in memory."""
        if self.hold_coefficients is None:
            return self.save_coefficients or recipe.block_coefficients or recipe.code_kind != "linear"
        return self.hold_coefficients

    def _check_held(self, recipe: DecompositionConfig) -> None:
        if self.hold_coefficients is not False:
            return
        if recipe.code_kind != "linear":
            raise FiltersubError(
                f"solver {recipe.solver!r} has codes that are no linear map of the kernels, so they must be held; "
                "leave hold_coefficients at None, or use solver='pca'"
            )
        if recipe.block_coefficients:
            raise FiltersubError("block_coefficients decomposes alpha, which must be held; leave hold_coefficients out")


def coding_part(recipe: DecompositionConfig) -> DecompositionConfig:
    """The part of a recipe that determines the coefficients alpha."""
    return replace(recipe, expansion=None, expansion_coefficients="shared", expansion_layers="spatial")
