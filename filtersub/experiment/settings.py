"""Everything that determines a tuning run, as one checked object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from ..data.views import check_augmentation, check_judge_crop
from ..decomposition.recipe import DecompositionConfig, check_expansion_start, check_overrides
from ..errors import FiltersubError
from ..methods.options import METHODS, MethodOptions, check_method, check_options
from ..methods.rates import HEAD_RATE, usual_rate
from ..setting_fields import ModelFields, RunFields, StartFields, TuneFields, described
from ..settings import MOST_PIXELS, MOST_SEED, Grouped, UsualNumber, check_share, check_types, check_whole
from ..training.config import TrainingConfig, check_allocation

CHOOSE = "choose"
#: settings that change nothing that is learned, so that runs which differ in them alone are runs of one setting
WITHOUT_EFFECT = frozenset({"workers", "evaluation_interval"})
#: candidates of ``learning_rate="choose"``, as multiples of the method's usual rate
RATE_FACTORS = (0.1, 0.3, 1.0, 3.0)
#: values of settings that older records do not hold: the defaults when these were written
_OF_THEN = {"batch_norm": "recomputed"}


@described
@dataclass(frozen=True)
class StartSettings(StartFields):
    """What is tuned of a decomposition, and how its updates start."""

    def __post_init__(self) -> None:
        check_types(self)
        object.__setattr__(self, "overrides", check_overrides(self.overrides) or None)
        check_expansion_start(self.expansion_init, self.init_scale)


@described
@dataclass(frozen=True, init=False, repr=False)
class TuneSettings(Grouped, RunFields, ModelFields, flat=(TuneFields,)):
    """Everything that determines a tuning run; see DecompositionConfig, MethodOptions, TrainingConfig, load_data
    (``augmentation``, ``judge_crop``) and load_model (``drop_path``; ``head_dropout`` is add_head_dropout_'s).

    Settings that are None become the usual ones, and are recorded as these: ``batch_norm`` becomes "frozen", for random
    weights "recomputed"; ``learning_rate`` that of the method under this ``batch_norm`` (filtersub/methods/rates.py);
    ``head_learning_rate`` 3e-3. ``dataclasses.replace`` with another method, block or start finds those that were left
    out anew. The learning rate "choose" tries ``rates`` (None: 0.1, 0.3, 1 and 3 times the usual
    one) on the 800/200 split first.
    """

    recipe: DecompositionConfig
    start: StartSettings
    options: MethodOptions
    training: TrainingConfig  # while the learning rate is to be chosen, at the first candidate

    def _derived(self, flat: Mapping[str, Any]) -> dict[str, Any]:
        check_method(self.method)
        check_types(self)
        if not 0 <= self.seed <= MOST_SEED:
            raise FiltersubError(f"seed must be an integer from 0 to {MOST_SEED:,}, got {self.seed!r}")
        if isinstance(self.rates, list):  # JSON knows no tuples
            object.__setattr__(self, "rates", tuple(self.rates))
        batch_norm = flat["batch_norm"]
        if batch_norm is None:
            batch_norm = "frozen" if self.pretrained or self.weights is not None else "recomputed"
        usual = usual_rate(self.method, blocks=flat["block"] is not None, batch_norm=batch_norm)
        if self.learning_rate is None:
            object.__setattr__(self, "learning_rate", UsualNumber(usual))
        if isinstance(self.learning_rate, str) and self.learning_rate != CHOOSE:
            raise FiltersubError(f"learning_rate must be a positive number or 'choose', got {self.learning_rate!r}")
        if self.rates is not None and self.learning_rate != CHOOSE:
            raise FiltersubError("rates are the candidates of learning_rate 'choose'; set that, or leave rates out")
        if self.rates is not None and not self.rates:
            raise FiltersubError("rates is empty; name at least one learning rate")
        first = (self.rates or _rates_around(usual))[0] if self.learning_rate == CHOOSE else self.learning_rate
        first = float(first) if isinstance(first, UsualNumber) else first  # as a checkpoint holds it
        head = HEAD_RATE if flat["head_learning_rate"] is None else flat["head_learning_rate"]
        channels_last = METHODS[self.method].channels_last
        found = {"learning_rate": first, "head_learning_rate": head, "batch_norm": batch_norm}
        return {**found, "channels_last": channels_last}

    def __post_init__(self) -> None:
        check_whole("image_size", self.image_size, 1, MOST_PIXELS)
        for rate in self.candidate_rates[1:] if self.learning_rate == CHOOSE else ():
            replace(self.training, learning_rate=rate)  # validates
        if self.training.patience is not None and not self.validation:
            raise FiltersubError("patience stops by validation images; set validation, or leave patience out")
        if self.recipe.block_spatial and self.recipe.block is None:
            raise FiltersubError("block_spatial blocks spatial kernels by block; set block, or leave block_spatial out")
        if self.n_train is not None and self.n_train < 1:
            raise FiltersubError(f"n_train must be positive, got {self.n_train}")
        check_augmentation(self.augmentation)
        check_judge_crop(self.judge_crop)
        for name in ("drop_path", "head_dropout"):
            check_share(name, getattr(self, name))
        check_options(self.method, self.options)
        if self.method == "adalora":
            check_allocation(self.training)

    @property
    def usual_rate(self) -> float:
        blocks, batch_norm = self.recipe.block is not None, self.training.batch_norm
        return usual_rate(self.method, blocks=blocks, batch_norm=batch_norm)

    @property
    def candidate_rates(self) -> tuple[float, ...]:
        """The rates that "choose" tries."""
        return _rates_around(self.usual_rate) if self.rates is None else self.rates

    def with_rate(self, rate: float) -> TuneSettings:
        """The same run at one rate; the head's own where nothing but the head is trained."""
        own = {"head_learning_rate": rate} if self.method == "linear" and self.learning_rate == CHOOSE else {}
        return replace(self, learning_rate=rate, rates=None, **own)

    @property
    def label(self) -> str:
        """What a reader calls the run, without its seed."""
        return f"{self._method_label}, SOAP" if self.training.optimizer == "soap" else self._method_label

    @property
    def _method_label(self) -> str:
        if self.method != "filter-subspace":
            label, depthwise = METHODS[self.method].label.format(**vars(self.options)), self.options.depthwise_rank
            own = self.method == "lora-loralib" and depthwise is not None
            return f"{label}, r={depthwise} on depthwise convolutions" if own else label
        recipe = self.recipe
        own = " per channel" if recipe.expansion_coefficients == "per-channel" else ""
        own += " on every layer" if recipe.expansion_layers == "all" else ""
        over = f" over m₁={'×'.join(map(str, recipe.expansion_sizes))}{own}" if recipe.expansion_sizes else ""
        sides = recipe.block if isinstance(recipe.block, tuple) else (recipe.block, recipe.block)
        blocks = "" if recipe.block is None else f", {sides[0]}×{sides[1]} blocks"
        blocks += " of alpha" if recipe.block_coefficients else ""
        spatial = " of spatial kernels too" if recipe.block_spatial else ""
        control = ", alpha trained too" if self.start.train_coefficients else ""
        codes = "" if recipe.solver == "lasso" else f", {recipe.solver} codes"
        return f"atoms m={recipe.atoms}{over}{blocks}{spatial}{control}{codes}{self._further_settings}"

    @property
    def _further_settings(self) -> str:
        """Those of the decomposition and the start that are not the defaults, for the label."""
        of_recipe = ("nonzeros", "nonnegative", "init", "learner", "max_rounds", "tol", "limit_atoms")
        named = [(self.recipe, name) for name in of_recipe]
        named += [(self.start, name) for name in ("expansion_init", "init_scale")]
        words = [
            f"{name.replace('_', ' ')} {getattr(group, name)}"
            for group, name in named
            if getattr(group, name) != type(group).__dataclass_fields__[name].default
        ]
        if self.start.overrides:
            words.append("recipe by layer")
        return "".join(f", {each}" for each in words)


def _rates_around(usual: float) -> tuple[float, ...]:
    return tuple(float(f"{usual * factor:.3g}") for factor in RATE_FACTORS)


def settings_among(variables: Mapping[str, Any]) -> TuneSettings:
    """The settings among variables, such as the parameters of a notebook, ``settings_among(globals())``; those that are
    missing are the defaults."""
    return TuneSettings(**{f.name: variables[f.name] for f in fields(TuneFields) if f.name in variables})


def settings_from(parameters: dict[str, Any], source: str) -> TuneSettings:
    """Settings as a record holds them, of this version or an older one; missing ones are the defaults of then.

    Raises FiltersubError on settings that are not known, naming ``source``.
    """
    unknown = sorted(set(parameters) - {f.name for f in fields(TuneFields)})
    if unknown:
        raise FiltersubError(f"{source} has the setting {unknown[0]!r}, which this version does not know")
    return TuneSettings(**_OF_THEN | parameters)
