"""Everything that determines a tuning run, as one checked object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from ..data.views import check_augmentation, check_judge_crop
from ..decomposition.recipe import DecompositionConfig, check_expansion_start, check_overrides
from ..errors import FiltersubError
from ..methods.options import HEAD_RATE, METHODS, OF_ATOMS, MethodOptions, check_method, check_options, usual_rate
from ..setting_fields import TuneFields, described
from ..settings import MOST_PIXELS, MOST_SEED, check_share, check_types, check_whole, select_fields
from ..training.config import TrainingConfig, check_allocation

CHOOSE = "choose"
#: settings that change nothing that is learned, so that runs which differ in them alone are runs of one setting
WITHOUT_EFFECT = frozenset({"workers", "evaluation_interval"})
#: candidates of ``learning_rate="choose"``, as multiples of the method's usual rate
RATE_FACTORS = (0.1, 0.3, 1.0, 3.0)


@described
@dataclass(frozen=True)
class TuneSettings(TuneFields):
    """Everything that determines a tuning run; see DecompositionConfig, MethodOptions, TrainingConfig, load_data
    (``augmentation``, ``judge_crop``) and load_model (``drop_path``; ``head_dropout`` is add_head_dropout_'s).

    ``learning_rate`` None becomes the method's usual one: 3e-2 for the atoms of spatial kernels, 2e-2 where blocks take
    part, 3e-3 for the others; ``head_learning_rate`` None becomes 3e-3. Those of settings 1 and 3, of full tuning and
    linear probing were chosen on the digits' validation images, the rivals' were not: "choose" does.
    It tries ``rates`` (None: 0.1, 0.3, 1 and 3 times the usual one) on the 800/200 split first.
    """

    def __post_init__(self) -> None:
        check_method(self.method)
        for name in ("expansion", "block", "rates"):  # JSON knows no tuples
            if isinstance(getattr(self, name), list):
                object.__setattr__(self, name, tuple(getattr(self, name)))
        check_types(self)
        if not 0 <= self.seed <= MOST_SEED:
            raise FiltersubError(f"seed must be an integer from 0 to {MOST_SEED:,}, got {self.seed!r}")
        check_whole("image_size", self.image_size, 1, MOST_PIXELS)
        if self.learning_rate is None:
            object.__setattr__(self, "learning_rate", self.usual_rate)
        if self.head_learning_rate is None:
            object.__setattr__(self, "head_learning_rate", HEAD_RATE)
        self._check_rates()
        if self.patience is not None and not self.validation:
            raise FiltersubError("patience stops by validation images; set validation, or leave patience out")
        if self.block_spatial and self.block is None:
            raise FiltersubError("block_spatial blocks spatial kernels by block; set block, or leave block_spatial out")
        if self.n_train is not None and self.n_train < 1:
            raise FiltersubError(f"n_train must be positive, got {self.n_train}")
        check_augmentation(self.augmentation)
        check_judge_crop(self.judge_crop)
        for name in ("drop_path", "head_dropout"):
            check_share(name, getattr(self, name))
        object.__setattr__(self, "overrides", check_overrides(self.overrides) or None)
        check_expansion_start(self.expansion_init, self.init_scale)
        _ = self.recipe  # validates
        check_options(self.method, self.options)
        if self.method == "adalora":
            check_allocation(self._training_at(self.candidate_rates[0]))

    def _check_rates(self) -> None:
        if isinstance(self.learning_rate, str) and self.learning_rate != CHOOSE:
            raise FiltersubError(f"learning_rate must be a positive number or 'choose', got {self.learning_rate!r}")
        if self.rates is not None and self.learning_rate != CHOOSE:
            raise FiltersubError("rates are the candidates of learning_rate 'choose'; set that, or leave rates out")
        if self.rates is not None and not self.rates:
            raise FiltersubError("rates is empty; name at least one learning rate")
        for rate in self.candidate_rates if self.learning_rate == CHOOSE else (self.learning_rate,):
            self._training_at(rate)

    @property
    def usual_rate(self) -> float:
        return usual_rate(self.method, blocks=self.block is not None)

    @property
    def candidate_rates(self) -> tuple[float, ...]:
        """The rates that "choose" tries."""
        if self.rates is not None:
            return self.rates
        return tuple(float(f"{self.usual_rate * factor:.3g}") for factor in RATE_FACTORS)

    def with_rate(self, rate: float) -> TuneSettings:
        """The same run at one rate; the head's own where nothing but the head is trained."""
        own = {"head_learning_rate": rate} if self.method == "linear" and self.learning_rate == CHOOSE else {}
        return replace(self, learning_rate=rate, rates=None, **own)

    @property
    def recipe(self) -> DecompositionConfig:
        return select_fields(self, DecompositionConfig)

    @property
    def of_atoms(self) -> dict[str, Any]:
        """What FilterSubspaceConfig takes beside the recipe."""
        return {name: getattr(self, name) for name in OF_ATOMS if name not in DecompositionConfig.__dataclass_fields__}

    @property
    def options(self) -> MethodOptions:
        return select_fields(self, MethodOptions)

    @property
    def training(self) -> TrainingConfig:
        """Raises FiltersubError while the learning rate is still to be chosen."""
        if isinstance(self.learning_rate, str):
            raise FiltersubError("the learning rate is still to be chosen")
        return self._training_at(self.learning_rate)

    def _training_at(self, rate: float) -> TrainingConfig:
        values = {f.name: getattr(self, f.name) for f in fields(TrainingConfig) if hasattr(self, f.name)}
        channels_last = METHODS[self.method].channels_last
        return TrainingConfig(**{**values, "learning_rate": rate, "channels_last": channels_last})

    @property
    def parameters(self) -> dict[str, Any]:
        """The settings as JSON has them: what a record holds."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @property
    def label(self) -> str:
        """What a reader calls the run, without its seed."""
        return f"{self._method_label}, {self.optimizer.upper()}" if self.optimizer == "soap" else self._method_label

    @property
    def _method_label(self) -> str:
        if self.method != "filter-subspace":
            label = METHODS[self.method].label.format(**self.parameters)
            own = self.method == "lora-loralib" and self.depthwise_rank is not None
            return f"{label}, r={self.depthwise_rank} on depthwise convolutions" if own else label
        sizes = self.expansion if isinstance(self.expansion, tuple) else (self.expansion,)
        own = " per channel" if self.expansion_coefficients == "per-channel" else ""
        own += " on every layer" if self.expansion_layers == "all" else ""
        over = "" if self.expansion is None else f" over m₁={'×'.join(map(str, sizes))}{own}"
        sides = self.block if isinstance(self.block, tuple) else (self.block, self.block)
        blocks = "" if self.block is None else f", {sides[0]}×{sides[1]} blocks"
        blocks += " of alpha" if self.block_coefficients else ""
        spatial = " of spatial kernels too" if self.block_spatial else ""
        control = ", alpha trained too" if self.train_coefficients else ""
        codes = "" if self.solver == "lasso" else f", {self.solver} codes"
        return f"atoms m={self.atoms}{over}{blocks}{spatial}{control}{codes}{self._further_settings}"

    @property
    def _further_settings(self) -> str:
        """Those of the decomposition and the start that are not the defaults, for the label."""
        names = ("nonzeros", "nonnegative", "init", "learner", "max_rounds", "tol", "limit_atoms")
        given = {
            name: getattr(self, name)
            for name in (*names, "expansion_init", "init_scale")
            if getattr(self, name) != type(self).__dataclass_fields__[name].default
        }
        words = [f"{name.replace('_', ' ')} {value}" for name, value in given.items()]
        if self.overrides:
            words.append("recipe by layer")
        return "".join(f", {each}" for each in words)


def settings_among(variables: Mapping[str, Any]) -> TuneSettings:
    """The settings among variables, such as the parameters of a notebook, ``settings_among(globals())``; those that are
    missing are the defaults."""
    return TuneSettings(**{f.name: variables[f.name] for f in fields(TuneSettings) if f.name in variables})


def settings_from(parameters: dict[str, Any], source: str) -> TuneSettings:
    """Settings as a record holds them, of this version or an older one, whose missing settings are the defaults.

    Raises FiltersubError on settings that are not known, naming ``source``.
    """
    known = {f.name for f in fields(TuneSettings)}
    unknown = sorted(set(parameters) - known)
    if unknown:
        raise FiltersubError(f"{source} has the setting {unknown[0]!r}, which this version does not know")
    return TuneSettings(**parameters)
