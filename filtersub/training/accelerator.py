"""The accelerator of a run: devices, processes and precision."""

import atexit
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import parse_flag_from_env

from ..memory import keep_freed_memory


def new_accelerator(precision: str, **options: Any) -> Accelerator:
    """An accelerator of this precision ("no", "bf16", "fp16"), whatever an earlier run in this process had."""
    atexit.register(_leave)
    state = AcceleratorState._shared_state
    if state and state.get("_mixed_precision", precision) != precision:
        AcceleratorState._reset_state()  # one process may train with one precision after another
    accelerator = Accelerator(mixed_precision=precision, **options)
    if accelerator.device.type == "cpu":
        keep_freed_memory()
    return accelerator


def processes() -> PartialState:
    """The processes of this run, as ``accelerate launch`` or torchrun started them.

    accelerate looks at ACCELERATE_USE_CPU only when it makes an Accelerator; asked earlier, it would take each process
    for the only one, and go on doing so.
    """
    atexit.register(_leave)
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))


def _leave() -> None:
    """Close the connections to the other processes while there is an interpreter: their threads may abort it else."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
