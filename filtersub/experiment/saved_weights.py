"""What was trained, on disk: an adapter as peft saves it, or the trained tensors; and back into a model."""

import json
import os
import re
import shutil
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..errors import FiltersubError, reason
from ..files import atomic_write, give_usual_mode, write_json
from ..methods import METHODS, inject, merged
from ..models import head_name
from ..tuning import FilterSubspaceConfig
from ..tuning.statistics import statistics_of
from ..weight_file import stored_tensors
from .model_card import CARD_FILE
from .settings import TuneSettings

ADAPTER_FOLDER, WEIGHTS_FILE = "adapter", "weights.safetensors"
STATISTICS_FILE = "statistics.safetensors"  # beside the adapter, where it cannot hold them, and in older runs
_ADAPTER_WEIGHTS, _ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
_PEFT_PREFIX = "base_model.model."
_WRAPPED = re.compile(r"\.(modules_to_save|original_module)\.")
_NOT_ITS_FILE = "it is not the file of this run, copy the run whole or tune again"


def save_trained(model: nn.Module, settings: TuneSettings, folder: Path) -> None:
    """Methods of peft into ``adapter/``; of the others what was trained, and the buffers, into ``weights.safetensors``.

    Batch norm's statistics are part of the adapter, so that ``PeftModel.from_pretrained`` alone gives the model that
    was judged: the method's own for "filter-subspace"; for the others the normalisation layers are saved whole, as
    modules that the adapter's configuration names (``modules_to_save``). Where peft, which takes names by their
    endings, would take other modules for them, the statistics lie in ``statistics.safetensors`` beside the adapter.

    Raises FiltersubError where the disk is full; what was there before stays.
    """
    state = model.state_dict()
    if not METHODS[settings.method].by_peft:
        trained = {name for name, p in model.named_parameters() if p.requires_grad}
        buffers = {name for name, _ in model.named_buffers()}
        _save({k: v for k, v in state.items() if k in trained | buffers}, folder / WEIGHTS_FILE)
        return
    moved = settings.method != "filter-subspace" and settings.training.batch_norm != "frozen"
    layers = _normalisations(model.get_base_model()) if moved else []
    (folder / STATISTICS_FILE).unlink(missing_ok=True)
    if layers and not _peft_finds(model, layers):
        _save(_statistics(model.get_base_model(), layers), folder / STATISTICS_FILE)
        layers = []
    _save_adapter(model, layers, folder)


def load_trained(model: nn.Module, settings: TuneSettings, folder: Path) -> nn.Module:
    """The base model with what a run trained, merged into plain weights where the method can be.

    Raises FiltersubError where the files are not there, damaged or not those of the run.
    """
    if METHODS[settings.method].by_peft:
        with _without_false_alarms():
            adapted = with_adapter(model, folder)
            layers = _normalisations(adapted.get_base_model())
            model = merged(adapted, settings.method)
        file = folder / STATISTICS_FILE
        if file.exists():
            base = model.get_base_model() if isinstance(model, PeftModel) else model
            # Older files have those of the modules too that the adapter has whole, under the names of their wrappers.
            found = {name: each for name, each in stored_tensors(file).items() if not _WRAPPED.search(name)}
            _fill(base, file, found, needed=_statistics(base, layers))
        return model
    if METHODS[settings.method].adds:
        head = head_name(model) or ""
        model = inject(model, settings.method, head, options=settings.options, layers=settings.layers).model
    head, buffers = head_name(model), {name for name, _ in model.named_buffers()}
    needed = [
        name
        for name in model.state_dict()
        if settings.method == "full" or name in buffers or (head and name.startswith(f"{head}."))
    ]
    _fill(model, folder / WEIGHTS_FILE, stored_tensors(folder / WEIGHTS_FILE), needed)
    return merged(model, settings.method)


def with_adapter(model: nn.Module, folder: Path) -> PeftModel:
    """The base model with the adapter of a run around its layers, not merged. Raises as load_trained does."""
    place = folder / ADAPTER_FOLDER
    missing = [name for name in (_ADAPTER_CONFIG, _ADAPTER_WEIGHTS) if not (place / name).is_file()]
    if missing:
        raise FiltersubError(f"{place} has no {missing[0]}; copy the run whole, or run the tuning again")
    try:
        with _without_false_alarms():
            adapted = PeftModel.from_pretrained(model, place)
            # The tuner of atoms looks at what a file must hold itself, and knows what older files may lack.
            own = isinstance(adapted.peft_config["default"], FilterSubspaceConfig)
            wanted = [] if own else get_peft_model_state_dict(adapted, save_embedding_layers=False)
    except FiltersubError as error:
        raise FiltersubError(f"{place}: {error}") from None
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise _unreadable(place, error) from None
    file = place / _ADAPTER_WEIGHTS
    found = {_plain_name(name): tensor for name, tensor in stored_tensors(file).items()}
    _check(file, found, [_plain_name(name) for name in wanted])
    return adapted


def _plain_name(name: str) -> str:
    """A tensor's name in an adapter's file without the name of the adapter, which some writers leave in."""
    return name.replace(".default.", ".").removesuffix(".default")


def _fill(model: nn.Module, file: Path, tensors: dict[str, Tensor], needed: Iterable[str]) -> None:
    """Load a file's tensors in place; the needed ones must be there, and nothing that the model does not have."""
    try:
        unknown = model.load_state_dict(tensors, strict=False).unexpected_keys
    except RuntimeError as error:  # shapes
        raise _unreadable(file, error) from None
    if unknown:
        raise FiltersubError(f"{file} has {unknown[0]!r}, which the model does not; {_NOT_ITS_FILE}")
    _check(file, tensors, needed)


def _check(file: Path, tensors: dict[str, Tensor], needed: Iterable[str]) -> None:
    """Raises FiltersubError where a tensor is missing, or one is not finite."""
    for name in needed:
        if name not in tensors:
            raise FiltersubError(f"{file} lacks {name!r}; {_NOT_ITS_FILE}")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise FiltersubError(f"{file}: {name!r} has numbers that are not finite; copy the run whole or tune again")


def _unreadable(path: Path, error: Exception) -> FiltersubError:
    return FiltersubError(f"cannot read {path}: {reason(error, 160)}; copy the run whole, or run the tuning again")


def saved_size(folder: Path) -> tuple[int, int]:
    """(numbers, bytes) of what save_trained wrote into a folder: all files but the model card."""
    files = [folder / WEIGHTS_FILE, folder / STATISTICS_FILE, *(folder / ADAPTER_FOLDER).glob("*")]
    files = [file for file in files if file.is_file() and file.name != CARD_FILE]
    return sum(_numbers(f) for f in files if f.suffix == ".safetensors"), sum(f.stat().st_size for f in files)


def _numbers(file: Path) -> int:
    """By the header alone: weights tuned whole are large."""
    with safe_open(file, "pt") as opened:
        return sum(torch.Size(opened.get_slice(key).get_shape()).numel() for key in opened.keys())  # noqa: SIM118


def _save(tensors: dict[str, Tensor], file: Path) -> None:
    with atomic_write(file) as aside:
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, aside)


def _normalisations(base: nn.Module) -> list[str]:
    """Names of the layers with running statistics; those inside modules that are saved whole are saved with them."""
    whole = tuple(f"{name}." for name, module in base.named_modules() if isinstance(module, ModulesToSaveWrapper))
    return [
        name
        for name, module in base.named_modules()
        if not name.startswith(whole) and statistics_of(dict(module.named_buffers(recurse=False)))
    ]


def _statistics(base: nn.Module, layers: list[str]) -> dict[str, Tensor]:
    """The running statistics of these layers."""
    found = statistics_of(base.state_dict())
    return {name: tensor for name, tensor in found.items() if name.rpartition(".")[0] in layers}


def _peft_finds(model: PeftModel, layers: list[str]) -> bool:
    """Whether peft, given these names to save, finds just these modules, and still puts the adapter where it is.

    It takes names by their endings for what is saved, and as regular expressions for what no adapter is put into.
    """
    base, config = model.get_base_model(), model.peft_config["default"]
    named = (*layers, *config.modules_to_save)
    wanted = {*layers, *(key for key, module in base.named_modules() if isinstance(module, ModulesToSaveWrapper))}
    inside = tuple(f"{name}." for name in wanted)
    found = {key for key, _ in base.named_modules() if key.endswith(named) and not key.startswith(inside)}
    adapted = [key for key, module in base.named_modules() if isinstance(module, BaseTunerLayer)]
    kept_out = any(re.match(rf"(^|.*\.){name}($|\..*)", key) for key in adapted for name in named)
    return found == wanted and not kept_out


def _add_layers(base: nn.Module, layers: list[str], folder: Path) -> None:
    """Put whole layers into a saved adapter, as peft saves the modules that a configuration names."""
    tensors = load_file(folder / _ADAPTER_WEIGHTS)
    for name in layers:
        own = base.get_submodule(name).state_dict()
        tensors |= {f"{_PEFT_PREFIX}{name}.{key}": tensor.detach().cpu() for key, tensor in own.items()}
    tensors = {key: tensor.contiguous() for key, tensor in tensors.items()}
    save_file(tensors, folder / _ADAPTER_WEIGHTS, metadata={"format": "pt"})
    config = json.loads((folder / _ADAPTER_CONFIG).read_text(encoding="utf-8"))
    config["modules_to_save"] = [*config["modules_to_save"], *layers]
    write_json(folder / _ADAPTER_CONFIG, config)


def _save_adapter(model: PeftModel, layers: list[str], folder: Path) -> None:
    """Written aside with these layers, then put in the place of an older one."""
    own = f"{os.getpid()}.part"  # no other process writes there, and folder_lock.sweep knows whose it was
    target, aside, old = folder / ADAPTER_FOLDER, folder / f".adapter.{own}", folder / f".adapter.old.{own}"
    try:
        with _without_false_alarms():
            model.save_pretrained(aside)
        (aside / CARD_FILE).unlink()  # peft's empty template
        if layers:
            _add_layers(model.get_base_model(), layers, aside)
        give_usual_mode(*aside.glob("*.safetensors"))
        if target.exists():
            target.rename(old)
        aside.rename(target)
    except (OSError, SafetensorError, RuntimeError) as error:
        said = f"{reason(error, 120)}; make room (is the disk full?) and run again to go on"
        raise FiltersubError(f"cannot write {target}: {said}") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _without_false_alarms() -> Iterator[None]:
    """peft takes the layers that AdaLoRA has left no rank for damage, and its record of ranks for another method's."""
    with warnings.catch_warnings():
        for message in (".*LoRA tensor.* have invalid shape", "The following rank_pattern keys did not match"):
            warnings.filterwarnings("ignore", message)
        yield
