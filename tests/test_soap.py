"""The optimiser in eigenbases: against its algorithm written out, AdamW for the rest, exact resume, falls back."""

import copy
import os
import signal

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from filtersub.errors import FiltersubError
from filtersub.experiment import TuneSettings, tune
from filtersub.records import OPTIMIZER_NOTE, Record
from filtersub.training import CHECKPOINT_FILE, TrainingConfig, fit, optimizers
from filtersub.training.optimizers import SOAP, Chosen, along_sides

EVERY, RATE, DECAY, EPS = optimizers._EVERY, 0.03, 0.1, 1e-8


def gradients(shape, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(shape, generator=generator, dtype=torch.float64)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) * mixed + mixed for _ in range(count)]


def moved(shape, given, preconditioned=True, betas=optimizers.BETAS):
    """A parameter after each of these gradients."""
    p = nn.Parameter(torch.linspace(-1, 1, torch.Size(shape).numel(), dtype=torch.float64).reshape(shape))
    group = {"params": [p], "preconditioned": preconditioned, "betas": betas}
    optimizer, places = SOAP([group], lr=RATE, weight_decay=DECAY), []
    for gradient in given:
        p.grad = gradient.clone()
        optimizer.step()
        assert torch.equal(p.grad, gradient), "the gradient is left as it was"
        places.append(p.detach().clone())
    return places, optimizer


def written_out(shape, given):
    """The algorithm for a parameter of any sides on its flat vector: the basis is the Kronecker product of all."""
    p = torch.linspace(-1, 1, torch.Size(shape).numel(), dtype=torch.float64)
    basis = torch.eye(len(p), dtype=torch.float64)
    m = v = torch.zeros_like(p)
    curvatures, places = None, []
    for t, gradient in enumerate(given, 1):
        turned = basis.T @ gradient.flatten()
        m, v = 0.9 * m + 0.1 * turned, 0.99 * v + 0.01 * turned**2
        step = (m / (1 - 0.9**t)) / ((v / (1 - 0.99**t)).sqrt() + EPS)
        p = p * (1 - RATE * DECAY) - RATE * basis @ step
        letters = "abcd"[: len(shape)]
        seen = [
            torch.einsum(f"{letters},{letters.replace(side, 'z')}->{side}z", gradient, gradient) for side in letters
        ]
        before = seen if curvatures is None else curvatures
        curvatures = [0.99 * c + 0.01 * s for c, s in zip(before, seen, strict=True)]
        if t % EVERY == 0:
            new = torch.ones(1, 1, dtype=torch.float64)
            for curvature in curvatures:
                new = torch.kron(new, torch.linalg.eigh(curvature)[1])
            turn = new.T @ basis
            m, v, basis = turn @ m, turn**2 @ v, new
        places.append(p.reshape(shape))
    return places


@pytest.mark.parametrize("shape", [(3, 4), (5, 2), (1, 4), (3, 2, 4), (2, 3, 2, 2)])
def test_it_is_the_algorithm_written_out(shape):
    given = gradients(shape, 3 * EVERY + 2)
    found, _ = moved(shape, given)
    for one, other in zip(found, written_out(shape, given), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("preconditioned", [True, False])
def test_its_first_steps_and_those_of_the_rest_are_adamws(preconditioned):
    given = gradients((3, 4), 25)
    found, _ = moved((3, 4), given, preconditioned, betas=(0.9, 0.999))
    p = nn.Parameter(torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(3, 4))
    adamw = torch.optim.AdamW([p], lr=RATE, weight_decay=DECAY)
    same = []
    for gradient, place in zip(given, found, strict=True):
        p.grad = gradient.clone()
        adamw.step()
        same.append(torch.allclose(p, place, rtol=1e-12, atol=1e-14))
    assert all(same[:EVERY])
    assert all(same) != preconditioned


def test_turned_problems_are_solved_alike():
    """Steps in the eigenbasis follow a turn of the coordinates, which AdamW's do not: the basis is not the axes'."""
    left = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))[0]
    scales = torch.tensor([1.0, 0.3, 0.1, 0.01], dtype=torch.float64)
    losses = {}
    for name in ("soap", "adamw"):
        for turn in (torch.eye(4, dtype=torch.float64), left):
            p = nn.Parameter(turn @ torch.ones(4, 3, dtype=torch.float64))
            kind = SOAP([{"params": [p], "preconditioned": name == "soap", "betas": optimizers.BETAS}], lr=0.01)
            for _ in range(120):
                loss = 0.5 * (scales[:, None] * (turn.T @ p)).square().sum()
                kind.zero_grad()
                loss.backward()
                kind.step()
            losses.setdefault(name, []).append(float(loss.detach()))
    spread = {name: abs(one - other) / one for name, (one, other) in losses.items()}
    assert spread["soap"] < 0.5 * spread["adamw"]


def test_sides_are_multiplied_one_by_one():
    values, matrices = gradients((2, 3, 4), 1)[0], [gradients((n, n), 1, seed=n)[0] for n in (2, 3, 4)]
    wanted = torch.einsum("abc,xa,yb,zc->xyz", values, *matrices)
    torch.testing.assert_close(along_sides(values, matrices), wanted)


@pytest.mark.parametrize("bad", [float("inf"), float("nan"), 1e200])
def test_a_curvature_that_is_not_finite_gives_adamws_steps_and_is_counted(bad):
    """A gradient of 1e200 is finite, its square is not."""
    given = gradients((3, 4), 4 * EVERY)
    if bad == 1e200:
        given[EVERY + 2] = given[EVERY + 2] * bad
        found, optimizer = moved((3, 4), given)
        assert all(bool(torch.isfinite(place).all()) for place in found)
        assert optimizer.resets == 1
        group = optimizer.param_groups[0]
        assert bool(torch.isfinite(optimizer.state[group["params"][0]]["curvature_0"]).all()), "averaged anew"
        return
    found, optimizer = moved((3, 4), given[:EVERY])
    p, state = optimizer.param_groups[0]["params"][0], None
    state = optimizer.state[p]
    state["curvature_1"][0, 1] = bad
    for gradient in given[EVERY : 2 * EVERY]:
        p.grad = gradient
        optimizer.step()
    assert optimizer.resets == 1
    assert torch.equal(state["basis_0"], torch.eye(3, dtype=torch.float64))


def test_an_eigenbasis_that_cannot_be_found_is_the_same(monkeypatch):
    def fails(*_):
        raise torch.linalg.LinAlgError("did not converge")

    monkeypatch.setattr(torch.linalg, "eigh", fails)
    found, optimizer = moved((3, 4), gradients((3, 4), EVERY + 3))
    assert optimizer.resets == 1
    assert bool(torch.isfinite(found[-1]).all())


def problem():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    images = torch.randn(3, 3, 4, 4, generator=generator)[labels] + 0.3 * torch.randn(60, 3, 4, 4, generator=generator)
    torch.manual_seed(0)
    layers = {"body": nn.Conv2d(3, 6, 3), "norm": nn.BatchNorm2d(6), "flat": nn.Flatten(), "head": nn.Linear(24, 3)}
    model = nn.Sequential()
    for name, layer in layers.items():
        model.add_module(name, layer)
    return model, TensorDataset(images[:40], labels[:40]), TensorDataset(images[40:], labels[40:])


CONFIG = TrainingConfig(epochs=8, batch_size=10, learning_rate=1e-2, optimizer="soap")


def test_the_head_and_parameters_of_one_side_are_the_rest():
    model, *_ = problem()
    groups = Chosen(model, CONFIG, "head").optimizer.param_groups
    names = {p: name for name, p in model.named_parameters()}
    parts = [({names[p] for p in group["params"]}, group["preconditioned"]) for group in groups]
    rest = {"body.bias", "norm.weight", "norm.bias"}
    assert parts == [({"body.weight"}, True), (rest, False), ({"head.weight", "head.bias"}, False)]


def test_a_resumed_run_ends_with_the_same_bits(tmp_path):
    model, train, test = problem()
    fit(model, train, test, 3, CONFIG, head="head")
    wanted = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def stop(row):
        if row["epoch"] == 5:  # steps 20 and 30 turned the bases
            raise KeyboardInterrupt

    model, train, test = problem()
    with pytest.raises(KeyboardInterrupt):
        fit(model, train, test, 3, CONFIG, head="head", folder=tmp_path, on_epoch=stop)
    kept = torch.load(tmp_path / CHECKPOINT_FILE, weights_only=True)["parts"]["optimizer"]["state"]
    assert any("basis_3" in each for each in kept.values())
    model, train, test = problem()
    result = fit(model, train, test, 3, CONFIG, head="head", folder=tmp_path)
    assert result.resumed_from_epoch == 5
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, wanted[name]), name


def test_too_long_sides_take_adamws_steps_and_the_result_says_so(monkeypatch):
    monkeypatch.setattr("filtersub.training.optimizers.LARGEST_SIDE", 5)
    found = {}
    for name in ("soap", "adamw"):
        model, train, test = problem()
        config = TrainingConfig(epochs=4, batch_size=10, learning_rate=1e-2, optimizer=name)
        result = fit(model, train, test, 3, config, head="head")
        found[name] = copy.deepcopy(model.state_dict()), result.optimizer_note
    assert found["soap"][1] == "AdamW's steps for 1 parameters with a side longer than 5: body.weight"
    assert found["adamw"][1] == ""
    for name, tensor in found["soap"][0].items():
        assert torch.equal(tensor, found["adamw"][0][name]), name


KILLED = """
import os, signal, sys
from filtersub.experiment import TuneSettings, log, tune
plain = log.TrainingLog.on_epoch
def dies(self, row):
    plain(self, row)
    if row["epoch"] == 1: os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "dies": log.TrainingLog.on_epoch = dies
tune(TuneSettings(**eval(sys.argv[3])), sys.argv[1], quiet=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_after_sigkill_a_tuning_run_goes_on_exactly(run_code, tmp_path):
    given = {
        "optimizer": "soap",
        "layers": r"blocks\.0\..*",
        "atoms": 3,
        "solver": "pca",
        "epochs": 2,
        "n_train": 60,
        "batch_size": 6,  # ten steps an epoch: the first one ends with new bases
        "image_size": 32,
        "validation": True,
    }
    wanted = tune(TuneSettings(**given), tmp_path / "whole", quiet=True)
    assert run_code(KILLED, tmp_path / "killed", "dies", repr(given)).returncode == -signal.SIGKILL
    found = tune(TuneSettings(**given), tmp_path / "killed", quiet=True)
    assert found.environment["resumed_from_epoch"] == 1
    assert found.metrics == wanted.metrics
    assert found.label.endswith(", SOAP")


def test_unknown_optimisers_are_one_line_and_notes_of_the_optimiser_are_about_no_layer():
    with pytest.raises(
        FiltersubError, match=r"^unknown optimizer 'soup'; did you mean 'soap'\? Known: adamw, adam, soap$"
    ):
        TuneSettings(optimizer="soup")
    counts = {"trainable": 1, "head": 1, "total": 2}
    record = Record("tuning", "x", {}, 0, {}, counts, {}, {}, notes={OPTIMIZER_NOTE: "n", "conv": "why"})
    assert record.layers_passed_over == {"conv": "why"}
