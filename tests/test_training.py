"""The loop: learns, repeats itself bit for bit, resumes exactly, stops when it must."""

import copy
import itertools

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from filtersub.errors import FiltersubError
from filtersub.training import BATCH_NORM, CHECKPOINT_FILE, TrainingConfig, evaluate, fit, set_training_mode_


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


@pytest.mark.parametrize("optimizer", ["adamw", "adam"])
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
        ({"optimizer": "sgd"}, "unknown optimizer 'sgd'; known: adamw, adam"),
        ({"learning_rate": 0.0}, "learning_rate must be"),
        ({"batch_norm": "odd"}, "unknown batch_norm 'odd'"),
    ):
        with pytest.raises(FiltersubError, match=message):
            TrainingConfig(**bad)
