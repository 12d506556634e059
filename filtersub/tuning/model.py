"""The tuner: wraps the layers that take part, combines adapters, and says what belongs to a saved adapter.

peft keeps a closed enum of its methods, so ``register`` adds an entry to it: the one place that depends on how peft
registers methods. tests/test_tuning.py fails loudly when that changes.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import aenum
import torch
from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner
from peft.utils import PeftType, register_peft_method
from torch import Tensor, nn

from ..errors import FiltersubError
from ..fingerprint import fingerprint_gap, same_fingerprint, tolerance
from ..percentages import percentage
from .codes import holds_codes, make_room, mapped_fingerprint, reading
from .combination import check_combined, combined_config, fill
from .config import METHOD, FilterSubspaceConfig
from .layer import PREFIX, FilterSubspaceLayer, tuned_layers
from .other_tools import check_adapter_name, named_plainly, tuners_word_renamed
from .statistics import RunningStatistics, statistics_of
from .targets import as_pattern, participants

_MOST_KEPT = 1 << 29  # bytes of summed weights that training keeps unless it is told
_FOLDING = ("fuse", "reparameterize", "switch_to_deploy")
_INSIDE = "base_model.model."  # where PeftModel keeps the base model


class FilterSubspaceModel(BaseTuner):
    """Injects FilterSubspaceLayer into a model; use it through ``peft.get_peft_model``."""

    prefix = PREFIX
    tuner_layer_cls = FilterSubspaceLayer
    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012 (peft's own form)

    def __init__(self, model: nn.Module, peft_config: Any, adapter_name: str, *arguments: Any, **options: Any) -> None:
        config = peft_config[adapter_name] if isinstance(peft_config, dict) else peft_config
        if "_orig_mod" not in str(config.target_modules):  # files of before name layers as torch.compile calls them
            model = named_plainly(model)
        super().__init__(model, peft_config, adapter_name, *arguments, **options)

    def __getattr__(self, name: str) -> Any:
        """Of the base model, but for methods that stand for a module: tools that fold layers (timm's
        reparameterize_model) would put the base model's result in the place of this wrapper."""
        if name in _FOLDING:
            raise AttributeError(f"{type(self).__name__} has no {name!r}; call that of get_base_model()")
        return super().__getattr__(name)

    def _prepare_adapter_config(self, peft_config: FilterSubspaceConfig, model_config: dict) -> FilterSubspaceConfig:
        """Resolve target_modules, a preset for one, to the layers that take part."""
        peft_config.target_modules = as_pattern(participants(self.model, peft_config))
        return peft_config

    def inject_adapter(self, model: nn.Module, adapter_name: str, *arguments: Any, **options: Any) -> None:
        """Wrap the layers that take part; the adapter has running statistics of its own from then on."""
        check_adapter_name(adapter_name, PREFIX, model, self.peft_config[adapter_name])
        if "statistics" not in self._modules:
            self.statistics = RunningStatistics(model)
            self.statistics.watch(self)
        if self.peft_config[adapter_name].save_batch_norm:
            self.statistics.add(adapter_name)
        try:
            with self._places_known():
                super().inject_adapter(model, adapter_name, *arguments, **options)
        except Exception:
            self.statistics.delete(adapter_name)
            raise
        self._choose_what_is_kept()

    def _choose_what_is_kept(self) -> None:
        """Summed weights are made again in the backward pass where an adapter says so, or where they take much room."""
        layers = [layer for _, layer in tuned_layers(self.model)]
        size = sum(layer.get_base_layer().weight.nbytes for layer in layers)
        wishes = [config.recompute_weights for config in self.peft_config.values()]
        again = True in wishes or (None in wishes and size > _MOST_KEPT)
        for layer in layers:
            layer.recomputes = again

    def set_adapter(self, adapter_name: str | list[str], inference_mode: bool = False) -> None:
        """Make one adapter, or a list of them, the active ones, with the running statistics of the first."""
        super().set_adapter(adapter_name, inference_mode)
        self.statistics.switch_to(self.active_adapters)

    def _enable_adapter_layers(self, enabled: bool = True) -> None:
        super()._enable_adapter_layers(enabled)
        self.statistics.switch_to(self.active_adapters if enabled else ())

    def delete_adapter(self, adapter_name: str) -> None:
        """Delete an adapter and its running statistics."""
        super().delete_adapter(adapter_name)
        self.statistics.delete(adapter_name)
        self.statistics.switch_to(self.active_adapters)
        self._choose_what_is_kept()

    def unload(self) -> nn.Module:
        """The base model as it was, without the adapters, merged ones too."""
        self.unmerge_adapter()
        self.statistics.switch_to(())
        return super().unload()

    def _unload_and_optionally_merge(self, *arguments: Any, **options: Any) -> nn.Module:
        with tuners_word_renamed(self.model), self._places_known():
            return super()._unload_and_optionally_merge(*arguments, **options)

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:
        """In every place that holds the module; containers among modules_to_save have no weight for peft to copy."""
        setattr(parent, child_name, new_module)
        for holder, name in self._places.pop(child, ()):
            holder._modules[name] = new_module

    @contextmanager
    def _places_known(self) -> Iterator[None]:
        """Where each module is held: looked up once, as a UNet has some 800 layers to replace among 3,000 modules."""
        self._places: dict[nn.Module, list[tuple[nn.Module, str]]] = {}
        for holder in self.model.modules():
            for name, held in holder._modules.items():
                self._places.setdefault(held, []).append((holder, name))
        try:
            yield
        finally:
            del self._places

    @contextmanager
    def _enable_peft_forward_hooks(
        self, *_: Any, adapter_names: Sequence[str] | None = None, **__: Any
    ) -> Iterator[None]:
        """peft would drop the names of an adapter for each image without a word."""
        if adapter_names is not None:
            raise FiltersubError(
                "adapter_names is for methods that add outputs; here adapters change weights: set_adapter"
            )
        yield

    def _create_and_replace(
        self,
        peft_config: FilterSubspaceConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        layer = target if isinstance(target, FilterSubspaceLayer) else FilterSubspaceLayer(target, current_key)
        layer.add_adapter(adapter_name, peft_config)
        if layer is not target:
            if adapter_name not in self.active_adapters:
                layer.requires_grad_(False)
            self._replace_module(parent, target_name, layer, target)
        elif adapter_name not in self.active_adapters:
            layer.set_requires_grad(adapter_name, False)

    def add_weighted_adapter(
        self, adapters: Sequence[str], weights: Sequence[float], adapter_name: str, combination_type: str = "linear"
    ) -> None:
        """A new adapter whose update is ``sum of weight x update`` of others, exactly; it is not made the active one.

        Parameters
        ----------
        adapters : names of adapters of one recipe; their layers, and the m_1 of expanded atoms, may differ
        weights : one for each; any real numbers
        adapter_name : the new one's
        combination_type : "linear", the only one

        The head of the new adapter (modules_to_save) is a copy of the base model's, as for peft's other methods.
        Raises FiltersubError on unknown or twice-named adapters, and where recipes differ, naming the difference.
        """
        if adapter_name in self.peft_config:
            raise FiltersubError(
                f"there is an adapter {adapter_name!r} already; delete it first or choose another name"
            )
        if combination_type != "linear":
            raise FiltersubError(f"combination_type must be 'linear', got {combination_type!r}")
        unknown = [name for name in adapters if name not in self.peft_config]
        if unknown or len(set(adapters)) != len(adapters):
            known = ", ".join(self.peft_config)
            raise FiltersubError(f"adapters to combine must be distinct names of {known}; got {list(adapters)}")
        layers = tuned_layers(self.model)
        targets = [key for key, layer in layers if any(name in layer.filtersub_atoms for name in adapters)]
        configs = {name: self.peft_config[name] for name in adapters}
        check_combined(self, adapters)
        self.peft_config[adapter_name] = combined_config(configs, weights, targets)
        try:
            self.inject_adapter(self.model, adapter_name)
        except Exception:
            self.peft_config.pop(adapter_name, None)
            raise
        fill(self, adapter_name, adapters, weights)
        self._cast_adapter_dtype(adapter_name)

    @property
    def _ddp_params_and_buffers_to_ignore(self) -> list[str]:
        """Frozen coefficients: every process makes the same, so none need be sent to the others at each step."""
        names = [name for name, _ in self.named_buffers() if f".{PREFIX}" in name]
        return [*names, *(f"base_model.{name}" for name in names)]

    @classmethod
    def _get_adapter_state_dict(
        cls,
        model: nn.Module,
        config: FilterSubspaceConfig,
        adapter_name: str,
        state_dict: dict[str, Tensor],
        **rest: Any,
    ) -> dict[str, Tensor]:
        kept = super()._get_adapter_state_dict(model, config, adapter_name, state_dict, **rest)
        if config.save_batch_norm:
            held = _held_statistics(model)
            own = statistics_of(state_dict)
            if held is not None and adapter_name in held:  # those that training has moved
                own = {f"{_INSIDE}{name}": value for name, value in held.changed(adapter_name).items()}
            kept.update(own)
        first = {id(module): name for name, module in model.named_modules()}
        places = tuned_layers(model, remove_duplicate=False)
        repeated = [f"{name}." for name, layer in places if first[id(layer)] != name]  # of layers in several places
        left_out = (*repeated, "base_model.statistics.")
        return {name: value for name, value in kept.items() if not name.startswith(left_out)}

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls, model: nn.Module, config: FilterSubspaceConfig, adapter_name: str, state_dict: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        with reading():
            remapped = super()._remap_adapter_state_dict_for_load(model, config, adapter_name, state_dict)
        _check_layers(model, remapped)
        _check_trained(model, adapter_name, remapped)
        for name, layer in tuned_layers(model):
            if adapter_name in layer.awaited and not holds_codes(remapped, name):  # a file that was to hold them
                layer.make_awaited()
        _check_fingerprints(model, adapter_name, remapped, stored=config.save_coefficients)
        for name, layer in tuned_layers(model):
            make_room(layer, name, adapter_name, remapped)
        held = _held_statistics(model)
        if held is not None and adapter_name in held:
            own = statistics_of(remapped)
            held.set_values(adapter_name, {name.removeprefix(_INSIDE): value for name, value in own.items()})
            remapped = {name: value for name, value in remapped.items() if name not in own}
        return remapped


def _held_statistics(model: nn.Module) -> RunningStatistics | None:
    """Of a PeftModel; a model that layers were injected into has one set, its own."""
    tuner = getattr(model, "base_model", None)
    return tuner.statistics if isinstance(tuner, FilterSubspaceModel) else None


def _check_layers(model: nn.Module, state_dict: dict[str, Tensor]) -> None:
    """Every layer of the file must be there: an adapter with some of its layers is another one."""
    parts = (key.removeprefix(_INSIDE).partition(f".{PREFIX}atoms") for key in state_dict)
    saved = [name for name, found, _ in parts if found]
    wrapped = {name.removeprefix(_INSIDE) for name, _ in tuned_layers(model, remove_duplicate=False)}
    absent = [name for name in saved if name not in wrapped]
    if absent:
        raise FiltersubError(
            f"the adapter has atoms for {len(saved)} layers, of which this model lacks {len(absent)}, {absent[0]!r} "
            "for one; load it on the model it was trained on"
        )


def _check_trained(model: nn.Module, adapter: str, state_dict: dict[str, Tensor]) -> None:
    """Each trained tensor of the adapter must be in the file, of its shape and with finite numbers: a file that was
    cut, mixed of two adapters or changed would load as another one."""
    for place, layer in tuned_layers(model):
        if adapter not in layer.filtersub_atoms:
            continue
        for name, own in layer.named_parameters():
            kind, _, owner = name.partition(".")
            if not kind.startswith(PREFIX) or not f"{owner}.".startswith(f"{adapter}."):
                continue
            saved = state_dict.get(f"{place}.{name}")
            what = f"layer {layer.name!r}: the saved adapter"
            if saved is None:
                raise FiltersubError(f"{what} lacks {kind}; its file is not whole, copy it again")
            if saved.shape != own.shape:
                raise FiltersubError(
                    f"{what} has {kind} of shape {tuple(saved.shape)} where its config means "
                    f"{tuple(own.shape)}; config and weights are of two adapters"
                )
            if saved.device.type != "meta" and not (saved.is_floating_point() and bool(saved.isfinite().all())):
                raise FiltersubError(f"{what} has {kind} that are no finite numbers; it is damaged")


def _check_fingerprints(model: nn.Module, adapter: str, state_dict: dict[str, Tensor], *, stored: bool) -> None:
    """The coefficients made here must be the ones that the atoms were trained with: the adapter has no meaning else.

    With ``stored``, those that the file holds are not made here.
    """
    for name, layer in tuned_layers(model):
        key = f"{name}.filtersub_fingerprint.{adapter}"
        if key not in state_dict or (stored and holds_codes(state_dict, name)):
            continue
        made, mapping = layer.filtersub_fingerprint[adapter], state_dict.get(f"{name}.filtersub_mapping.{adapter}")
        if mapping is not None and not layer.base_weight().is_meta:  # V as saved, where it is
            made = mapped_fingerprint(layer.layouts[adapter], layer.base_weight(), mapping)
        allowed = tolerance(layer.get_base_layer().weight.dtype)
        if made.device.type != "meta" and not same_fingerprint(made, state_dict[key], allowed):
            gap = fingerprint_gap(made, state_dict[key])
            raise FiltersubError(
                f"layer {layer.name!r}: the coefficients made from this model's weights are not those the adapter was "
                f"trained with (fingerprints differ by {percentage(gap)}); load it on the base weights it was "
                "trained on, or save it with save_coefficients=True"
            )
        state_dict[key] = made if made.device.type != "meta" else state_dict[key].to(torch.float64)


def register() -> None:
    """Add the method to peft's tables, once; a config is then saved and loaded by its peft_type."""
    if METHOD.upper() not in PeftType.__members__:
        aenum.extend_enum(PeftType, METHOD.upper(), METHOD.upper())
    if PeftType[METHOD.upper()] not in PEFT_TYPE_TO_TUNER_MAPPING:
        register_peft_method(name=METHOD, config_cls=FilterSubspaceConfig, model_cls=FilterSubspaceModel, prefix=PREFIX)
