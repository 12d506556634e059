"""Makes the two networks of the embedded digits again: the UNet that draws 0 to 4, and the classifier that judges.

``python tests/digits_assets.py`` writes them where the package has them; minutes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from filtersub.files import atomic_write
from filtersub.generation import DenoisingConfig, DenoisingSet, fit_denoiser
from filtersub.generation.digits_run import (
    ASSETS,
    CLASSIFIER_FILE,
    FIRST,
    UNET_FILE,
    DigitsClassifier,
    digits,
    digits_unet,
    noise_schedule,
)
from filtersub.training import TrainingConfig, evaluate, fit


def train_base(steps: int, on_step: Callable[[dict[str, float]], None] | None = None) -> nn.Module:
    """The UNet trained from scratch on the training images of 0 to 4."""
    torch.manual_seed(0)
    unet = digits_unet()
    config = DenoisingConfig(
        steps=steps, batch_size=64, learning_rate=2e-3, weight_decay=1e-2, warmup_steps=100, schedule="cosine",
        ema_decay=0.995, mixed_precision="no",
    )  # fmt: skip
    fit_denoiser(unet, noise_schedule(), DenoisingSet(digits(FIRST)), config, on_step=on_step)
    return unet


def train_classifier() -> tuple[nn.Module, float]:
    """The classifier, and its accuracy on the 797 test images."""
    torch.manual_seed(0)
    classifier = DigitsClassifier()
    train, test = (_labelled(test=part) for part in (False, True))
    fit(classifier, train, test, 10, TrainingConfig(epochs=30, batch_size=50, learning_rate=2e-3, mixed_precision="no"))
    _, confusion = evaluate(classifier, torch.utils.data.DataLoader(test, 200), 10)
    return classifier, float(confusion.diagonal().sum() / confusion.sum())


def _labelled(*, test: bool) -> torch.utils.data.TensorDataset:
    parts = [digits((label,), test=test) for label in range(10)]
    labels = torch.cat([torch.full((len(part),), label) for label, part in enumerate(parts)])
    return torch.utils.data.TensorDataset(torch.cat(parts), labels)


def main() -> None:
    """Train both and write their files."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=ASSETS)
    parser.add_argument("--steps", type=int, default=2800)
    args = parser.parse_args()
    classifier, accuracy = train_classifier()
    print(f"classifier: {accuracy:.1%} of the test images", flush=True)
    every = max(1, args.steps // 20)
    unet = train_base(args.steps, lambda row: None if row["step"] % every else print(row, flush=True))
    written = {
        CLASSIFIER_FILE: {k: v.contiguous() for k, v in classifier.state_dict().items()},
        UNET_FILE: {k: v.half().contiguous() for k, v in unet.state_dict().items()},
    }
    for name, state in written.items():
        with atomic_write(args.out / name) as aside:
            save_file(state, aside)


if __name__ == "__main__":
    main()
