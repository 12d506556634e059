"""The accelerator of a run: devices, processes and precision."""

from __future__ import annotations

from typing import Any

from accelerate import Accelerator
from accelerate.state import AcceleratorState


def new_accelerator(precision: str, **options: Any) -> Accelerator:
    """An accelerator of this precision ("no", "bf16", "fp16"), whatever an earlier run in this process had."""
    state = AcceleratorState._shared_state
    if state and state.get("_mixed_precision", precision) != precision:
        AcceleratorState._reset_state()  # one process may train with one precision after another
    return Accelerator(mixed_precision=precision, **options)
