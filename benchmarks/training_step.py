"""One training step of each method on EfficientNet-Lite0: channels first and last, and against full tuning.

All variants are measured in one process, alternating, one thread by default; prints medians and their ratios.
"""

from __future__ import annotations

import argparse
import time

import torch
from peft import get_peft_model
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from filtersub.models import load_model
from filtersub.tuning import FilterSubspaceConfig

METHODS = ("linear", "atoms", "atoms, 4x4 blocks", "full")


def build(method: str, channels_last: bool) -> nn.Module:
    torch.manual_seed(0)
    model = load_model("efficientnet_lite0", num_classes=10)
    if method == "linear":
        model.requires_grad_(False)
        model.classifier.requires_grad_(True)
    elif method != "full":
        block = 4 if "blocks" in method else None
        model = get_peft_model(model, FilterSubspaceConfig(solver="pca", block=block, modules_to_save=["classifier"]))
    model = model.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    return model.train()


def step_seconds(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    began = time.perf_counter()
    cross_entropy(model(images), labels).backward()
    model.zero_grad()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--size", type=int, default=64, help="pixels a side")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    images = torch.randn(options.batch, 3, options.size, options.size)
    labels = torch.arange(options.batch) % 10
    variants = {(method, last): build(method, last) for method in METHODS for last in (False, True)}
    inputs = {last: images.contiguous(memory_format=torch.channels_last) if last else images for last in (False, True)}
    times: dict[tuple[str, bool], list[float]] = {variant: [] for variant in variants}
    for repeat in range(options.repeats + 1):
        for variant, model in variants.items():
            seconds = step_seconds(model, inputs[variant[1]], labels)
            if repeat:  # the first round warms up
                times[variant].append(seconds)
    median = {variant: float(torch.tensor(values).median()) for variant, values in times.items()}
    print(f"batch {options.batch}, {options.size} px, {options.threads} thread(s), median of {options.repeats}")
    print(f"{'method':20s} {'first ms':>9s} {'last ms':>9s} {'first/last':>11s} {'last, of full':>14s}")
    for method in METHODS:
        first, last = median[method, False], median[method, True]
        of_full = last / median["full", True]
        print(f"{method:20s} {1e3 * first:9.0f} {1e3 * last:9.0f} {first / last:11.2f} {of_full:14.2f}")


if __name__ == "__main__":
    main()
