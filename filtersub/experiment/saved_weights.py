"""What was trained, on disk: an adapter as peft saves it, or the trained tensors; and back into a model."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from peft import PeftModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import FiltersubError
from ..files import written_whole
from ..methods import METHODS, inject, merged
from ..models import head_name, load_weight_file
from .settings import TuneSettings

ADAPTER_FOLDER, WEIGHTS_FILE, STATISTICS_FILE = "adapter", "weights.safetensors", "statistics.safetensors"
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_PEFT_PREFIX = "base_model.model."


def save_trained(model: nn.Module, settings: TuneSettings, folder: Path) -> None:
    """Methods of peft into ``adapter/``, with batch norm's statistics in a file beside it where peft's method does not
    keep them; of the others what was trained, and the buffers, into ``weights.safetensors``.

    Raises FiltersubError where the disk is full; what was there before stays.
    """
    state = model.state_dict()
    if not METHODS[settings.method].by_peft:
        trained = {name for name, p in model.named_parameters() if p.requires_grad}
        buffers = {name for name, _ in model.named_buffers()}
        _save({k: v for k, v in state.items() if k in trained | buffers}, folder / WEIGHTS_FILE)
        return
    _save_adapter(model, folder)
    statistics = {k.removeprefix(_PEFT_PREFIX): v for k, v in state.items() if k.rpartition(".")[2] in _STATISTICS}
    if statistics and settings.method != "filter-subspace" and settings.batch_norm != "frozen":
        _save(statistics, folder / STATISTICS_FILE)


def load_trained(model: nn.Module, settings: TuneSettings, folder: Path) -> nn.Module:
    """The base model with what a run trained, merged into plain weights where the method can be."""
    if METHODS[settings.method].by_peft:
        model = merged(PeftModel.from_pretrained(model, folder / ADAPTER_FOLDER), settings.method)
        if (folder / STATISTICS_FILE).exists():
            base = model.get_base_model() if isinstance(model, PeftModel) else model
            base.load_state_dict(load_weight_file(folder / STATISTICS_FILE), strict=False)
        return model
    if METHODS[settings.method].adds:
        head = head_name(model) or ""
        model = inject(model, settings.method, head, options=settings.options, layers=settings.layers).model
    model.load_state_dict(load_weight_file(folder / WEIGHTS_FILE), strict=False)
    return merged(model, settings.method)


def saved_size(folder: Path) -> tuple[int, int]:
    """(numbers, bytes) of what save_trained wrote into a folder, all its files counted."""
    files = [folder / WEIGHTS_FILE, folder / STATISTICS_FILE, *(folder / ADAPTER_FOLDER).glob("*")]
    files = [file for file in files if file.is_file()]
    return sum(_numbers(f) for f in files if f.suffix == ".safetensors"), sum(f.stat().st_size for f in files)


def _numbers(file: Path) -> int:
    with safe_open(file, "pt") as opened:
        return sum(torch.Size(opened.get_slice(key).get_shape()).numel() for key in opened.keys())  # noqa: SIM118


def _save(tensors: dict[str, Tensor], file: Path) -> None:
    with written_whole(file) as aside:
        try:
            save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, aside)
        except SafetensorError as error:
            raise _full(file, error) from None


def _save_adapter(model: PeftModel, folder: Path) -> None:
    """Written aside, then put in the place of an older one."""
    target, aside, old = folder / ADAPTER_FOLDER, folder / ".adapter.part", folder / ".adapter.old"
    for leftover in (aside, old):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        model.save_pretrained(aside)
    except (OSError, SafetensorError, RuntimeError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise _full(target, error) from None
    if target.exists():
        target.rename(old)
    aside.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _full(path: Path, error: Exception) -> FiltersubError:
    reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
    return FiltersubError(f"cannot write {path}: {reason}; make room (is the disk full?) and run again to go on")
