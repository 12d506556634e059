"""One training step (forward, backward, Adam) of each setting beside full tuning, LoRA and the two-convolution form.

All variants of a model are measured in one process, alternating, in channels-last memory; prints medians, their
quartiles, the ratios to full tuning and the pages of memory that the system made for a step. What a step costs depends
on how many coefficients are zero, so they are exact LASSO codes at the default penalty, over atoms that are not learned
(random rows), which takes less time. "input gradient" trains the head alone but takes the gradient back to the images:
near what any adapter of all layers needs. With --as-trained each method stands twice: with torch's functions, and with
those of training.needed_activations. With --frozen, batch norm keeps its statistics, and "as trained" is that and batch
norms folded into convolutions; each method stands a third time, without folding.
"""

from __future__ import annotations

import argparse
import gc
import resource
import time
from collections.abc import Callable
from contextlib import nullcontext
from statistics import median

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from filtersub.kernels import select_layers
from filtersub.memory import PeakMemory, keep_freed_memory
from filtersub.models import head_name, load_model
from filtersub.training import foldable_norms, needed_activations, set_training_mode_
from filtersub.tuning import FilterSubspaceConfig, FilterSubspaceLayer

QUICK = {"max_rounds": 0, "atoms": 9}
SETTINGS = {
    "setting 1": QUICK,
    "setting 1, linear codes": {"solver": "pca"},
    "setting 2": {**QUICK, "expansion": 4},
    "setting 3": {**QUICK, "block": 4},
    "setting 3, linear codes": {"solver": "pca", "block": 4},
    "setting 4": {**QUICK, "block": 4, "expansion": 4},
}
OWN = ", as trained"  # behind a method's name: within training.needed_activations, with batch norms folded
APART = ", not folded"  # the same without folding
METHODS = ("full", "linear", "input gradient", "two convolutions", "lora 1", "lora 3", *SETTINGS)


class TwoConvolutions(FilterSubspaceLayer):
    """Setting 1 in its naive form: the base convolution and a second one with the update, summed."""

    def forward(self, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        update = functional_call(self.base_layer, {"weight": self.get_delta_weight("default")}, (x,))
        return self.base_layer(x) + update  # the bias twice costs nothing that shows


def build(name: str, method: str, frozen: bool) -> nn.Module:
    torch.manual_seed(0)
    method = method.removesuffix(OWN).removesuffix(APART)
    model = load_model(name, pretrained=False, num_classes=10)
    head = head_name(model)
    if method in ("linear", "input gradient"):
        model.requires_grad_(False)
        model.get_submodule(head).requires_grad_(True)
    elif method.startswith("lora"):
        layers = select_layers(model, block=4 if method.endswith("3") else None, exclude=(head,))
        able = [n for n, layout in layers.items() if 16 % layout.groups == 0 or layout.groups == 1]
        model = get_peft_model(model, LoraConfig(r=16, target_modules=able, modules_to_save=[head]))
    elif method != "full":
        options = SETTINGS.get(method, QUICK)
        model = get_peft_model(model, FilterSubspaceConfig(modules_to_save=[head], **options))
        for layer in model.modules():
            if isinstance(layer, FilterSubspaceLayer) and method == "two convolutions":
                layer.__class__ = TwoConvolutions
    set_training_mode_(model, "frozen" if frozen else "updated")
    return model.to(memory_format=torch.channels_last)


def stepper(
    model: nn.Module, images: Tensor, labels: Tensor, clock: Callable[[], float], method: str
) -> Callable[[], float]:
    images = images.clone().requires_grad_() if method.startswith("input gradient") else images
    pairs = foldable_norms(model, images[:2]) if method.endswith(OWN) else []
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-5)

    def step() -> float:
        began = clock()
        with needed_activations(pairs) if method.endswith((OWN, APART)) else nullcontext():
            cross_entropy(model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return clock() - began

    return step


def measure(
    name: str, methods: list[str], images: Tensor, repeats: int, clock: Callable[[], float], frozen: bool
) -> None:
    labels = torch.arange(images.shape[0]) % 10
    steps = {m: stepper(build(name, m, frozen), images, labels, clock, m) for m in methods}
    gc.disable()
    times: dict[str, list[float]] = {method: [] for method in methods}
    pages: dict[str, list[int]] = {method: [] for method in methods}
    for repeat in range(repeats + 1):
        for method, step in steps.items():
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            seconds = step()
            if repeat:  # the first round warms up
                times[method].append(seconds)
                pages[method].append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    gc.enable()
    quartiles = {m: torch.tensor(t).quantile(torch.tensor([0.25, 0.5, 0.75])).tolist() for m, t in times.items()}
    full = quartiles["full"][1]
    print(
        f"\n{name}: batch {images.shape[0]}, {images.shape[-1]} px, {torch.get_num_threads()} thread(s), n = {repeats}"
    )
    print(f"{'method':34s} {'median ms':>10s} {'quartiles':>15s} {'of full':>8s} {'new pages':>10s}")
    for method, (low, middle, high) in quartiles.items():
        row = f"{method:34s} {1e3 * middle:10.0f} {1e3 * low:7.0f} {1e3 * high:7.0f} {middle / full:8.2f}"
        print(f"{row} {median(pages[method]):10.0f}")


def measure_memory(name: str, methods: list[str], images: Tensor, frozen: bool) -> None:
    """What a step needs beside the model: one method after another, each alone in the process, after a first step."""
    labels = torch.arange(images.shape[0]) % 10
    print(f"\n{name}: batch {images.shape[0]}, {images.shape[-1]} px, {torch.get_num_threads()} thread(s)")
    print(f"{'method':34s} {'model MiB':>10s} {'added MiB':>10s}")
    for method in methods:
        model = build(name, method, frozen)
        step = stepper(model, images, labels, time.process_time, method)
        step()
        with PeakMemory("cpu") as memory:
            step()
        held = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
        print(f"{method:34s} {held / 2**20:10.0f} {memory.added_bytes / 2**20:10.0f}", flush=True)
        del model, step
        gc.collect()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["resnet50", "convnext_tiny"])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=96, help="pixels a side")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory", action="store_true", help="the memory that a step adds, in place of its time")
    parser.add_argument("--frozen", action="store_true", help="batch norm keeps its statistics")
    parser.add_argument("--as-trained", action="store_true", help="each method also with this package's own functions")
    parser.add_argument("--cpu-time", action="store_true", help="processor instead of wall time: for a busy machine")
    parser.add_argument("--give-back", action="store_true", help="freed memory by the C library's own rules, as before")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if not (options.give_back or options.memory):
        keep_freed_memory()  # as training does, for every method
    images = torch.randn(options.batch, 3, options.size, options.size).contiguous(memory_format=torch.channels_last)
    clock = time.process_time if options.cpu_time else time.perf_counter
    methods = list(dict.fromkeys(options.methods if options.memory else ["full", *options.methods]))
    if options.frozen or options.as_trained:
        ways = ("", APART, OWN) if options.frozen else ("", OWN)
        methods = [method + way for method in methods for way in ways]
    for name in options.models:
        if options.memory:
            measure_memory(name, methods, images, options.frozen)
        else:
            measure(name, methods, images, options.repeats, clock, options.frozen)


if __name__ == "__main__":
    main()
