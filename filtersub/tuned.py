"""A tuned model read back from its run folder, merged, with the test images it was judged on."""

from __future__ import annotations

import os
from pathlib import Path

from torch import nn

from .data import ImageSplit, load_data, n_classes
from .errors import FiltersubError
from .experiment import TuneSettings
from .models import input_statistics, load_model, load_weight_file
from .records import read_record


def load_tuned(folder: str | os.PathLike[str]) -> tuple[nn.Module, ImageSplit, TuneSettings]:
    """(model in evaluation mode with what was trained merged into its weights, images, settings) of a tuning run.

    Parameters
    ----------
    folder : as experiment.tune or ``filtersub tune --out`` wrote it

    Raises FiltersubError when the folder holds no tuning run or its weights are missing.
    """
    folder, record = Path(folder), read_record(folder)
    if record.kind != "tuning":
        raise FiltersubError(f"{folder} holds a {record.kind} run, not a tuning run")
    settings = TuneSettings(**record.parameters)
    model = load_model(
        settings.model, pretrained=settings.pretrained, weights=settings.weights, num_classes=n_classes(settings.data)
    )
    mean, std = input_statistics(model)
    split = load_data(settings.data, size=settings.image_size, mean=mean, std=std, validation=settings.validation)
    if (folder / "adapter").is_dir():
        from peft import PeftModel

        from . import tuning  # noqa: F401 (registers the method with peft)

        model = PeftModel.from_pretrained(model, folder / "adapter").merge_and_unload()
    else:
        model.load_state_dict(load_weight_file(folder / "weights.safetensors"), strict=False)
    return model.eval(), split, settings
