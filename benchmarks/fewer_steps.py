"""Accuracy after few steps: batch norm's statistics, rates of the head, and trials that the package does not offer.

EfficientNet-Lite0 on the digits, setting 1 (m = 9) where a row says no other. Each row is a whole run with its own
schedule; its accuracy in percent is of the 200 validation images, with --test of the test images. Trials:

- fitted head: logistic regression on the features before the first step (Kumar et al., arXiv:2202.10054)
- full matrix: all atoms together by the inverse root of their gradients' second moment in a window of recent steps
  (GGT; Agarwal et al., arXiv:1806.02958), with the length of AdamW's step; AdamW for the head
- polar: steps that are steepest by the spectral norm of the kernels' change alpha dD (Muon, arXiv:2502.16982, in the
  atoms' own coordinates): all singular values of a layer's step are equal, half the rate of the kernels' norm together

    python benchmarks/fewer_steps.py [--only frozen] [--seeds 0,1,2] [--test]
"""

import argparse
import os
import statistics
import tempfile
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from sklearn.linear_model import LogisticRegression
from torch.utils.data import DataLoader

from filtersub.decomposition.cache import DECOMPOSITIONS
from filtersub.experiment import TuneSettings, tune
from filtersub.experiment.tuned import images_of
from filtersub.models import head_name, input_statistics
from filtersub.training import optimizers
from filtersub.tuning.layer import tuned_layers

USUAL = {"batch_norm": "recomputed", "learning_rate": 0.06}  # as the preset `optimisers`
FROZEN = {"batch_norm": "frozen", "learning_rate": 0.01}
HEAD = {"head_learning_rate": 0.01}
POLAR = {"learning_rate": 0.03, "optimizer": "soap", "solver": "pca"}
LOWER = {**FROZEN, "learning_rate": 0.003, "head_learning_rate": 0.001}
#: name -> settings; "fitted" is C of the logistic regression; in "full matrix" and "polar" SOAP stands for their class
ROWS: dict[str, dict[str, Any]] = {
    "AdamW, 8 epochs": {**USUAL},
    "AdamW, 4 epochs": {**USUAL, "epochs": 4},
    "AdamW, 4 epochs, warm-up of 0.25": {**USUAL, "epochs": 4, "warmup_epochs": 0.25},
    "fitted head, 4 epochs": {**USUAL, "epochs": 4, "fitted": 0.1},
    "full matrix, 4 epochs": {**USUAL, "epochs": 4, "optimizer": "soap"},
    "frozen: AdamW, 8 epochs": {**FROZEN},
    "frozen: AdamW, 8 epochs, head 0.01": {**FROZEN, **HEAD},
    "frozen: AdamW, 4 epochs": {**FROZEN, "epochs": 4},
    "frozen: AdamW, 4 epochs, head 0.01": {**FROZEN, **HEAD, "epochs": 4},
    "frozen: SOAP, 4 epochs": {**FROZEN, "epochs": 4, "optimizer": "soap"},
    "frozen: fitted head, lower rates, 4 epochs": {**LOWER, "epochs": 4, "fitted": 0.001},
    "frozen: full matrix, 4 epochs, head 0.01": {**FROZEN, **HEAD, "epochs": 4, "optimizer": "soap"},
    "frozen: head alone, 4 epochs, head 0.01": {**FROZEN, **HEAD, "epochs": 4, "method": "linear"},
    **{f"frozen: polar, {n} epochs, head 0.01": {**FROZEN, **HEAD, **POLAR, "epochs": n} for n in (4, 5)},
    **{
        f"frozen: linear codes, AdamW, {n} epochs, head 0.01": {**FROZEN, **HEAD, "solver": "pca", "epochs": n}
        for n in (4, 8)
    },
    "frozen: AdamW, 6 epochs, 4 x 4 blocks": {**FROZEN, "block": 4, "solver": "pca", "epochs": 6},
}
for name, own, rates in (
    ("4 x 4 blocks", {"block": 4, "solver": "pca"}, (0.003, 0.01)),
    ("full", {"method": "full"}, (0.0003, 0.001)),
):
    for rate, head in product(rates, (0.003, 0.01)):
        given = {**FROZEN, **own, "epochs": 4, "learning_rate": rate, "head_learning_rate": head}
        ROWS[f"frozen: AdamW, 4 epochs, {name}, rate {rate:g}, head {head:g}"] = given


class FullMatrix(torch.optim.AdamW):
    """AdamW, but preconditioned groups step along (G^T G)^-1/2 m. G: recent gradients (steps, entries), m: average."""

    WINDOW, DECAY, FLOOR = 40, 0.95, 1e-2  # the floor in shares of G's largest singular value

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        atoms = [p for group in self.param_groups if group.get("preconditioned") for p in group["params"]]
        before = torch.cat([p.flatten() for p in atoms])
        gradient = torch.cat([p.grad.flatten() for p in atoms])
        super().step(closure)
        rows = [row * self.DECAY for row in getattr(self, "rows", [])]
        self.rows = [*rows[-(self.WINDOW - 1) :], gradient]
        self.average = torch.lerp(getattr(self, "average", gradient), gradient, 0.1)
        _, values, basis = torch.linalg.svd(torch.stack(self.rows), full_matrices=False)
        inside, floor = basis @ self.average, self.FLOOR * values[0]
        direction = basis.T @ (inside / (values + floor)) + (self.average - basis.T @ inside) / floor
        length = (torch.cat([p.flatten() for p in atoms]) - before).norm()
        after = before - direction * (length / direction.norm())
        for p, value in zip(atoms, after.split([p.numel() for p in atoms]), strict=True):
            p.copy_(value.view_as(p))


class Polar(torch.optim.AdamW):
    """AdamW, but preconditioned groups step along the polar factor of their momentum, entries of 0.5 on average."""

    MOMENTUM = 0.9

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        atoms = [(group, p) for group in self.param_groups if group.get("preconditioned") for p in group["params"]]
        steps = []
        for group, p in atoms:
            state = self.momenta.setdefault(p, torch.zeros_like(p)).lerp_(p.grad, 1 - self.MOMENTUM)
            left, _, right = torch.linalg.svd(state.lerp(p.grad, 1 - self.MOMENTUM), full_matrices=False)
            polar = left @ right
            steps.append(p - group["lr"] * 0.5 * polar / polar.square().mean().sqrt())
        super().step(closure)
        for (_, p), value in zip(atoms, steps, strict=True):
            p.copy_(value)

    @property
    def momenta(self) -> dict[torch.Tensor, torch.Tensor]:
        return self.__dict__.setdefault("_momenta", {})


@torch.no_grad()
def use_coordinates_of_kernels_(model: torch.nn.Module) -> None:
    """alpha = F V gets orthogonal columns, of one length for all layers beside their kernels' norm: V becomes V G^-1/2,
    with G = alpha^T alpha. dD, zero now, stands for the same atoms in other coordinates."""
    for _, layer in tuned_layers(model):
        (mapping,) = layer.filtersub_mapping.values()
        (layout,) = layer.layouts.values()
        rows = layout.to_rows(layer.base_weight().detach()).double()
        alpha = rows @ mapping.double()
        values, basis = torch.linalg.eigh(alpha.T @ alpha)
        inverse_root = basis * values.clamp_min(1e-3 * float(values.max())).rsqrt() @ basis.T
        mapping.copy_(mapping.double() @ inverse_root * rows.norm() / mapping.numel() ** 0.5)


@torch.no_grad()
def fit_head_(model: torch.nn.Module, settings: TuneSettings, c: float) -> None:
    """The head of ``model`` becomes a logistic regression on the features of the training images."""
    head = model.get_submodule(head_name(model))
    head = getattr(head, "modules_to_save", {"default": head})["default"]
    images = images_of(settings, *input_statistics(model)).train
    features, labels = [], []
    handle = head.register_forward_pre_hook(lambda _, arguments: features.append(arguments[0]))
    model.train(settings.training.batch_norm != "frozen")  # features as the first step will see them
    for batch, own in DataLoader(images, 50, shuffle=True, generator=torch.Generator().manual_seed(settings.seed)):
        model(batch)
        labels.append(own)
    handle.remove()
    fitted = LogisticRegression(C=c, max_iter=300).fit(torch.cat(features).numpy(), torch.cat(labels).numpy())
    head.weight.copy_(torch.from_numpy(fitted.coef_))
    head.bias.copy_(torch.from_numpy(fitted.intercept_))


def accuracy(name: str, seed: int, test: bool) -> float:
    given = {**ROWS[name], "seed": seed, "validation": not test, "evaluation_interval": 8}
    c = given.pop("fitted", None)
    settings = TuneSettings(**given)
    change = None if c is None else lambda model: fit_head_(model, settings, c)
    used = {"soap": FullMatrix} if "full matrix" in name else {}
    if "polar" in name:
        change, used = use_coordinates_of_kernels_, {"soap": Polar}
    with tempfile.TemporaryDirectory() as folder, patch.dict(optimizers._CLASSES, used):
        record = tune(settings, Path(folder) / "run", quiet=True, change=change)
    return 100 * record.metrics["test_accuracy" if test else "validation_accuracy"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="rows whose name has this in it")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--test", action="store_true", help="train on all 1,000 images, judge on the test images")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as shared:
        os.environ[DECOMPOSITIONS] = shared
        for name in (name for name in ROWS if args.only in name):
            found = [accuracy(name, int(seed), args.test) for seed in args.seeds.split(",")]
            print(f"| {name} | {statistics.mean(found):.1f} | {', '.join(f'{a:.1f}' for a in found)} |", flush=True)


if __name__ == "__main__":
    main()
