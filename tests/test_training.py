"""The loop: learns, repeats itself bit for bit, resumes exactly, stops when it must."""

import copy
import itertools
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from filtersub.errors import FiltersubError
from filtersub.training import (
    BATCH_NORM,
    CHECKPOINT_FILE,
    TrainingConfig,
    evaluate,
    fit,
    recompute_batch_norm_,
    set_training_mode_,
)


def problem():
    """Three classes of 4 x 4 images that a line separates, noise on top; a network with batch norm."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(90) % 3
    patterns = torch.randn(3, 3, 4, 4, generator=generator)
    images = patterns[labels] + 0.3 * torch.randn(90, 3, 4, 4, generator=generator)
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3))
    return nn.Sequential(*layers), TensorDataset(images[:60], labels[:60]), TensorDataset(images[60:], labels[60:])


CONFIG = TrainingConfig(epochs=6, batch_size=10, learning_rate=3e-2)


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def without_seconds(history):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history]


def test_it_learns():
    model, train, test = problem()
    result = fit(model, train, test, 3, CONFIG)
    assert result.history[-1]["test_accuracy"] > 0.9
    assert result.history[-1]["train_loss"] < 0.5 * result.history[0]["train_loss"]
    assert int(result.confusion.sum()) == 30
    assert float(result.confusion.diagonal().sum()) / 30 == pytest.approx(result.history[-1]["test_accuracy"])
    assert result.seconds_per_step > 0
    assert result.peak_memory_bytes > 1_000_000


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "soap"])
def test_the_same_seed_gives_the_same_bits(optimizer):
    runs = []
    for seed in (1, 1, 2):
        model, train, test = problem()
        config = TrainingConfig(epochs=2, batch_size=10, optimizer=optimizer, seed=seed)
        runs.append((without_seconds(fit(model, train, test, 3, config).history), state(model)))
    assert runs[0][0] == runs[1][0]
    assert same(runs[0][1], runs[1][1])
    assert not same(runs[0][1], runs[2][1])


class Interrupted(Exception):
    pass


def test_an_interrupted_run_resumes_exactly(tmp_path):
    model, train, test = problem()
    whole = fit(model, train, test, 3, CONFIG)
    expected = state(model)

    def stop(row):
        if row["epoch"] == 3:
            raise Interrupted

    model, train, test = problem()
    with pytest.raises(Interrupted):
        fit(model, train, test, 3, CONFIG, folder=tmp_path, on_epoch=stop)
    model, train, test = problem()
    resumed = fit(model, train, test, 3, CONFIG, folder=tmp_path)
    assert resumed.resumed_from_epoch == 3
    assert without_seconds(resumed.history) == without_seconds(whole.history)
    assert same(state(model), expected)
    assert torch.equal(resumed.confusion, whole.confusion)


def test_a_finished_checkpoint_trains_no_further(tmp_path):
    model, train, test = problem()
    first = fit(model, train, test, 3, CONFIG, folder=tmp_path)
    model, train, test = problem()
    again = fit(model, train, test, 3, CONFIG, folder=tmp_path)
    assert again.resumed_from_epoch == CONFIG.epochs
    assert torch.equal(again.confusion, first.confusion)


def test_checkpoints_of_other_settings_and_damaged_ones_are_refused(tmp_path):
    model, train, test = problem()
    fit(model, train, test, 3, TrainingConfig(epochs=1), folder=tmp_path)
    with pytest.raises(FiltersubError, match=r"other settings \(epochs: 1, now 2\)"):
        fit(problem()[0], train, test, 3, TrainingConfig(epochs=2), folder=tmp_path)
    path = tmp_path / CHECKPOINT_FILE
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(FiltersubError, match="is damaged"):
        fit(problem()[0], train, test, 3, TrainingConfig(epochs=1), folder=tmp_path)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_epoch(tmp_path):
    model, train, test = problem()

    def spoil(row):
        if row["epoch"] == 2:
            model[0].weight.data.fill_(float("nan"))

    with pytest.raises(FiltersubError, match=r"loss became nan in epoch 3.*state after epoch 2 is kept"):
        fit(model, train, test, 3, CONFIG, folder=tmp_path, on_epoch=spoil)
    kept = torch.load(tmp_path / CHECKPOINT_FILE, weights_only=True)
    assert len(kept["progress"]["history"]) == 2
    assert bool(torch.isfinite(kept["weights"]["0.weight"]).all())


@pytest.mark.parametrize("policy", BATCH_NORM)
def test_batch_norm_policy(policy):
    model, train, test = problem()
    before = copy.deepcopy(model[1])
    fit(model, train, test, 3, TrainingConfig(epochs=1, batch_norm=policy))
    assert torch.equal(model[1].running_mean, before.running_mean) == (policy == "frozen")
    set_training_mode_(model, policy)
    assert model[1].training == (policy in ("updated", "recomputed"))
    assert model[0].training


def test_adapted_statistics_are_those_of_the_images_before_training():
    model, train, test = problem()
    with torch.no_grad():
        maps = model[0](train.tensors[0])
    fit(model, train, test, 3, TrainingConfig(epochs=2, batch_size=10, batch_norm="adapted"))
    torch.testing.assert_close(model[1].running_mean, maps.mean((0, 2, 3)), atol=1e-5, rtol=1e-5)


def test_recomputed_statistics_are_those_of_the_training_images():
    model, train, test = problem()
    fit(model, train, test, 3, TrainingConfig(epochs=2, batch_size=10, batch_norm="recomputed"))
    with torch.no_grad():
        maps = model[0](train.tensors[0])
    torch.testing.assert_close(model[1].running_mean, maps.mean((0, 2, 3)), atol=1e-5, rtol=1e-5)
    assert model[1].momentum == 0.1


def norms_and_images(side, channels=3):
    """Two layers of batch norm in float64, and images whose batches are far apart."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(66, channels, side, side, generator=generator, dtype=torch.float64)
    images += torch.linspace(-3, 9, 66, dtype=torch.float64).view(66, 1, 1, 1)
    torch.manual_seed(0)
    layers = (nn.Conv2d(channels, 5, 1), nn.BatchNorm2d(5), nn.Dropout(0.5), nn.Conv2d(5, 4, 1), nn.BatchNorm2d(4))
    return nn.Sequential(*layers).double(), images


@pytest.mark.parametrize("sizes", [(64, 2), (33, 33), (2, 64), (66,), (20, 20, 20, 6)])
def test_recomputed_statistics_weigh_every_image_alike(sizes):
    """By hand: mean and variance over all images at once; a last batch of 2 counts 2, not as much as one of 64."""
    model, images = norms_and_images(side=3)
    recompute_batch_norm_(model, images.split(sizes))
    with torch.no_grad():
        first = model[0](images).movedim(1, 0).flatten(1)
        batches = [model[0](part) for part in images.split(sizes)]
        inner = [
            (x - x.mean((0, 2, 3), True)) / (x.var((0, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
            for x in batches
        ]
        second = torch.cat([model[3](x) for x in inner]).movedim(1, 0).flatten(1)
    for norm, values in ((model[1], first), (model[4], second)):  # no dropout between them: as the model is judged
        torch.testing.assert_close(norm.running_mean, values.sum(1) / values.shape[1])
        apart = values - values.mean(1, keepdim=True)
        torch.testing.assert_close(norm.running_var, apart.square().sum(1) / (values.shape[1] - 1))
        assert norm.momentum == 0.1


@pytest.mark.parametrize("kind", ["one dimension", "three dimensions", "used twice", "not used"])
def test_recomputed_statistics_of_other_layers(kind):
    images = torch.randn(10, 4, 6, dtype=torch.float64) * 3 + 2
    norm = {"three dimensions": nn.BatchNorm3d(4)}.get(kind, nn.BatchNorm1d(4)).double()
    before = norm.running_var.clone()
    model = nn.Sequential(norm, *([norm] if kind == "used twice" else []))
    if kind == "three dimensions":
        images = images.view(10, 4, 1, 2, 3)
    if kind == "not used":
        model = nn.Sequential(nn.Identity(), nn.ModuleDict({"idle": norm}))
        model.forward = lambda images: images
    recompute_batch_norm_(model, images.split((6, 4)))
    if kind == "not used":
        assert torch.equal(norm.running_var, before)
        return
    values = images
    if kind == "used twice":
        parts = [
            (x - x.mean((0, 2), True)) / (x.var((0, 2), correction=0, keepdim=True) + 1e-5).sqrt()
            for x in images.split((6, 4))
        ]
        values = torch.cat([images, *parts])
    values = values.movedim(1, 0).flatten(1)
    torch.testing.assert_close(norm.running_mean, values.mean(1))
    torch.testing.assert_close(norm.running_var, values.var(1))


@pytest.mark.parametrize("batch_size", [10, 25])  # of 60 images whole batches are looked at: 60 and 50
def test_each_epoch_is_judged_on_statistics_of_its_weights(batch_size):
    """Whole batches of the training images, the same in each epoch, and the order of training stays what it was."""
    losses, judged = {}, []
    for policy in ("updated", "recomputed"):
        model, train, test = problem()
        chosen = torch.randperm(60, generator=torch.Generator().manual_seed(0))[: 60 // batch_size * batch_size]

        def look(row, model=model, images=train.tensors[0][chosen]):
            with torch.no_grad():
                maps = model[0](images)
            judged.append((model[1].running_mean.clone(), maps.mean((0, 2, 3))))

        config = replace(CONFIG, epochs=3, batch_size=batch_size, batch_norm=policy)
        losses[policy] = [row["train_loss"] for row in fit(model, train, test, 3, config, on_epoch=look).history]
    assert losses["recomputed"] == losses["updated"]
    for found, expected in judged[3:5]:
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert not any(torch.allclose(found, expected, atol=1e-3) for found, expected in judged[:2])


def test_a_model_without_batch_norm_reads_no_image_for_it():
    def none():
        raise AssertionError("read")
        yield

    recompute_batch_norm_(nn.Sequential(nn.Conv2d(3, 2, 1), nn.GroupNorm(1, 2)), none())


def test_schedule_warms_up_and_ends_at_nothing():
    model, train, test = problem()
    config = TrainingConfig(epochs=10, batch_size=10, warmup_epochs=2, learning_rate=1.0, optimizer="adam")
    rates = [row["learning_rate"] for row in fit(model, train, test, 3, config).history]
    assert rates[0] < rates[1] < rates[2] == pytest.approx(1.0)
    assert all(a > b for a, b in itertools.pairwise(rates[2:]))
    assert rates[-1] < 0.1


def test_channels_last_is_the_same_mathematics():
    results = []
    for channels_last in (False, True):
        model, train, test = problem()
        model = model.double()
        double = [TensorDataset(part.tensors[0].double(), part.tensors[1]) for part in (train, test)]
        fit(model, *double, 3, TrainingConfig(epochs=1, channels_last=channels_last))
        results.append(model[0].weight.detach())
    torch.testing.assert_close(results[0], results[1], atol=1e-6, rtol=0)  # the loss itself is in float32


def test_evaluation_counts_true_classes_down():
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2, bias=False))
    model[1].weight.data = torch.tensor([[-1.0], [1.0]])
    images = torch.tensor([1.0, 1.0, -1.0, 1.0]).view(4, 1, 1, 1)
    labels = torch.tensor([1, 0, 0, 0])
    loss, confusion = evaluate(model, [(images, labels)], 2)
    assert confusion.tolist() == [[1, 2], [0, 1]]
    assert loss == pytest.approx(float(nn.functional.cross_entropy(model(images), labels).detach()))


def test_nothing_to_train_and_bad_settings():
    model, train, test = problem()
    with pytest.raises(FiltersubError, match="nothing to train"):
        fit(model.requires_grad_(False), train, test, 3, CONFIG)
    for bad, message in (
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"optimizer": "sgd"}, "unknown optimizer 'sgd'; known: adamw, adam, soap"),
        ({"learning_rate": 0.0}, "learning_rate must be"),
        ({"batch_norm": "odd"}, "unknown batch_norm 'odd'"),
    ):
        with pytest.raises(FiltersubError, match=message):
            TrainingConfig(**bad)
