"""A tuned model read back from its run folder, merged: with the test images it was judged on, or beside its base."""

import os
from typing import Any

import torch
from torch import nn

from ..data import ImageSplit, load_data, n_classes
from ..errors import FiltersubError
from ..files import as_path
from ..models import input_statistics, load_model
from ..records import read_record
from .saved_weights import load_trained
from .settings import TuneSettings, settings_from


def load_tuned(folder: str | os.PathLike[str]) -> tuple[nn.Module, ImageSplit, TuneSettings]:
    """(model in evaluation mode with what was trained merged into its weights, images, settings) of a tuning run.

    Parameters
    ----------
    folder : as experiment.tune or ``filtersub tune --out`` wrote it; the images are not augmented

    Raises FiltersubError when the folder holds no tuning run or its weights are missing.
    """
    settings = settings_of(folder)
    model = base_model(settings)
    split = images_of(settings, *input_statistics(model), hold=False)
    return load_trained(model, settings, as_path(folder)).eval(), split, settings


def load_pair(folder: str | os.PathLike[str]) -> tuple[nn.Module, nn.Module, TuneSettings]:
    """(base model, the same model with what was trained merged into its weights, settings) of a tuning run.

    Arguments and errors as in load_tuned; no image is read.
    """
    settings = settings_of(folder)
    return base_model(settings), load_trained(base_model(settings), settings, as_path(folder)).eval(), settings


def settings_of(folder: str | os.PathLike[str]) -> TuneSettings:
    """The settings of a tuning run. Raises FiltersubError when the folder holds none."""
    record = read_record(folder)
    if record.kind != "tuning":
        raise FiltersubError(f"{folder} holds a {record.kind} run, not a tuning run")
    return settings_from(record.parameters, str(folder))


def base_model(settings: TuneSettings) -> nn.Module:
    """The model that a run started from, its new head and any random weights those of the run."""
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        return new_model(settings)


def new_model(settings: TuneSettings, **options: Any) -> nn.Module:
    """The model that a run starts from, its head drawn by torch's global generator; ``options`` are load_model's."""
    classes = n_classes(settings.data)
    own = {"pretrained": settings.pretrained, "weights": settings.weights, "num_classes": classes}
    return load_model(settings.model, **own, **options)


def images_of(settings: TuneSettings, mean: tuple[float, ...], std: tuple[float, ...], **options: Any) -> ImageSplit:
    """The images of a run, normalised by mean and std of each channel; ``options`` of load_data."""
    return load_data(
        settings.data,
        size=settings.image_size,
        mean=mean,
        std=std,
        validation=settings.validation,
        n_train=settings.n_train,
        judge_crop=settings.judge_crop,
        **options,
    )
