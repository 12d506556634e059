"""How a run takes its steps: the optimiser, which parameters it moves how, and the learning rate over the steps."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import FiltersubError
from ..models import is_inside
from .config import OptimizationConfig

LARGEST_SIDE = 512  # of a parameter that is preconditioned: larger eigenbases cost more than the steps they save

_EVERY = 10  # steps between two eigenbases; the first ten are AdamW's
# Decay of the two moments in the eigenbasis, the second the curvature's too. Chosen on the digits' validation images
# (one seed, 4 epochs): 90.5 %, and 82.0 % with the (0.95, 0.95) of Vyas et al.
BETAS = (0.9, 0.99)


class SOAP(torch.optim.AdamW):
    """AdamW whose groups with ``preconditioned=True`` step in the eigenbases of their parameters' curvature.

    For a parameter with sides n_1 x n_2 x ..., averages of the gradient's second moments along each side, (n_k, n_k),
    stand for the curvature (Shampoo's Kronecker factors; Gupta et al., arXiv:1802.09568). AdamW steps in their
    eigenbases (SOAP; Vyas et al., arXiv:2409.11321), which are made anew every few steps. Every other parameter takes
    AdamW's own step.

    Decay of the weights is AdamW's. Where a curvature is not finite or has no eigenbasis, the parameter goes back to
    AdamW's own steps and its curvature is averaged anew; ``resets`` counts how often that happened.
    State: beside AdamW's, whose moments are those in the eigenbasis, ``curvature_k`` and ``basis_k`` (n_k, n_k).
    """

    def __init__(self, params: Iterable[Any], **options: Any) -> None:
        super().__init__(params, **options)
        for group in self.param_groups:
            group.setdefault("preconditioned", False)
            group.setdefault("resets", 0)

    @property
    def resets(self) -> int:
        return sum(group["resets"] for group in self.param_groups)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        plain = {}
        for group in self.param_groups:
            for p in group["params"] if group["preconditioned"] else ():
                if p.grad is not None:
                    plain[p] = (group, p.clone(), p.grad)
                    p.grad = along_sides(p.grad, [basis.T for basis in self._bases(p)])
                    p.zero_()  # so that AdamW leaves the step alone in it
        super().step()
        for p, (group, value, gradient) in plain.items():
            step = along_sides(p, self._bases(p))
            p.copy_(value.mul_(1 - group["lr"] * group["weight_decay"]).add_(step))
            p.grad = gradient
            self._average_curvature(p)
            if int(self.state[p]["step"]) % _EVERY == 0:
                self._turn(p, group)
        return loss

    def _bases(self, p: Tensor) -> list[Tensor]:
        """None before the first eigenbasis."""
        state = self.state[p]
        return [state[f"basis_{k}"] for k in range(p.ndim) if f"basis_{k}" in state]

    def _average_curvature(self, p: Tensor) -> None:
        state = self.state[p]
        for k in range(p.ndim):
            rows = p.grad.movedim(k, 0).flatten(1)
            moment = rows @ rows.T
            if f"curvature_{k}" in state:
                state[f"curvature_{k}"].lerp_(moment, 1 - BETAS[1])
            else:
                state[f"curvature_{k}"] = moment

    def _turn(self, p: Tensor, group: dict[str, Any]) -> None:
        """New eigenbases; the moments are taken along."""
        state, old = self.state[p], self._bases(p)
        new = [eigenbasis(state[f"curvature_{k}"]) for k in range(p.ndim)]
        if any(basis is None for basis in new):
            group["resets"] += 1
            new = [torch.eye(side, dtype=p.dtype, device=p.device) for side in p.shape]
            for k in range(p.ndim):
                del state[f"curvature_{k}"]
        turns = [after.T if not old else after.T @ before for after, before in zip(new, old or new, strict=True)]
        state["exp_avg"].copy_(along_sides(state["exp_avg"], turns))
        # squares of turned coordinates, on average, where those before were uncorrelated
        state["exp_avg_sq"].copy_(along_sides(state["exp_avg_sq"], [turn.square() for turn in turns]))
        state.update({f"basis_{k}": basis for k, basis in enumerate(new)})


def along_sides(values: Tensor, matrices: list[Tensor]) -> Tensor:
    """``values`` multiplied along side k by the k-th matrix (n_k, n_k), from the left; as it is where there is none."""
    for matrix in matrices:
        values = torch.tensordot(values, matrix, dims=([0], [1]))  # puts the side last, so that all come around
    return values


def eigenbasis(curvature: Tensor) -> Tensor | None:
    """Its eigenvectors as columns; None where it is not finite or they cannot be found."""
    if not bool(torch.isfinite(curvature).all()):
        return None
    try:
        return torch.linalg.eigh(curvature.float() if curvature.dtype.itemsize < 4 else curvature)[1].to(curvature)
    except torch.linalg.LinAlgError:
        return None


_CLASSES = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "soap": SOAP}


class Chosen:
    """``optimizer`` and its ``groups``, the first of which is the one whose rate the history shows."""

    def __init__(self, model: nn.Module, config: OptimizationConfig, head: str | None) -> None:
        self.groups = parameter_groups(model, config, head)
        self._too_large: list[str] = []
        if config.optimizer == "soap":
            self.groups = [part for group in self.groups for part in self._parts(group, model, head)]
        self.optimizer = _CLASSES[config.optimizer](self.groups, weight_decay=config.weight_decay)

    def _parts(self, group: dict[str, Any], model: nn.Module, head: str | None) -> list[dict[str, Any]]:
        """What SOAP preconditions: parameters of two sides or more, none too long, that are not of the head."""
        names = {p: name for name, p in model.named_parameters()}
        shaped = [p for p in group["params"] if p.ndim > 1 and not is_inside(names[p], head)]
        chosen = {p for p in shaped if max(p.shape) <= LARGEST_SIDE}
        self._too_large += [names[p] for p in shaped if p not in chosen]
        others = [p for p in group["params"] if p not in chosen]
        parts = [
            {**group, "params": [p for p in group["params"] if p in chosen], "preconditioned": True, "betas": BETAS},
            {**group, "params": others, "preconditioned": False},
        ]
        return [part for part in parts if part["params"]]

    @property
    def note(self) -> str:
        """Where and how often SOAP took AdamW's steps instead of its own; empty where it did not have to."""
        notes = []
        if self._too_large:
            notes.append(
                f"AdamW's steps for {len(self._too_large)} parameters with a side longer than {LARGEST_SIDE}: "
                + ", ".join(self._too_large)
            )
        resets = self.optimizer.resets if isinstance(self.optimizer, SOAP) else 0
        if resets:
            notes.append(f"a curvature was not finite {resets} times, and its parameter went back to AdamW's steps")
        return "; ".join(notes)


def parameter_groups(model: nn.Module, config: OptimizationConfig, head: str | None) -> list[dict[str, Any]]:
    """What trains, the head apart with a rate of its own; the first group is the one whose rate the history shows.

    Raises FiltersubError where nothing requires a gradient.
    """
    trained = [(is_inside(name, head), p) for name, p in model.named_parameters() if p.requires_grad]
    if not trained:
        raise FiltersubError("nothing to train: no parameter of the model requires a gradient")
    in_head = [p for inside, p in trained if inside]
    others = [p for inside, p in trained if not inside]
    groups = [{"params": others, "lr": config.learning_rate}, {"params": in_head, "lr": config.head_rate}]
    return [group for group in groups if group["params"]]


def factor_at(config: OptimizationConfig, peak: float, warmup: float, total: int) -> Callable[[int], float]:
    """Factor of a peak rate at a step: linear over the warm-up, then half a cosine down to the floor, or constant.

    ``warmup`` and ``total`` are steps.
    """
    floor = config.min_rate / peak

    def factor(step: int) -> float:
        if step < warmup:
            if config.warmup_rate is None:
                return (step + 1) / (warmup + 1)
            start = config.warmup_rate / peak
            return start + (1 - start) * step / warmup
        if config.schedule == "constant":
            return 1.0
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1.0, total - warmup)))

    return factor
