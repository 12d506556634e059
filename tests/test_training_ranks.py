"""AdaLoRA in the loop: the budget is met, the penalty is its formula, runs resume exactly, bad settings are refused."""

from types import SimpleNamespace

import pytest
import torch
from peft import AdaLoraConfig, PeftModel, get_peft_model
from torch import nn
from torch.utils.data import TensorDataset

from filtersub.errors import FiltersubError
from filtersub.experiment import TuneSettings
from filtersub.methods import MethodOptions, inject
from filtersub.training import TrainingConfig, fit
from filtersub.training.rank_allocation import RankAllocation, allocation_of

RANK, START = 2, 3
CONFIG = TrainingConfig(epochs=5, batch_size=10, learning_rate=1e-2, mixed_precision="no")


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 1)
        self.mix, self.unused, self.head = nn.Linear(24, 8), nn.Linear(4, 4), nn.Linear(8, 3)

    def forward(self, images):
        x = torch.relu(self.second(torch.relu(self.first(images))))
        return self.head(torch.relu(self.mix(x.flatten(1))))


def problem():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(90) % 3
    patterns = torch.randn(3, 3, 4, 4, generator=generator)
    images = patterns[labels] + 0.3 * torch.randn(90, 3, 4, 4, generator=generator)
    torch.manual_seed(0)
    model = inject(Network(), "adalora", "head", options=MethodOptions(rank=RANK)).model
    return model, TensorDataset(images[:60], labels[:60]), TensorDataset(images[60:], labels[60:])


def singular_values(model):
    return {name: p.detach().flatten() for name, p in model.named_parameters() if ".lora_E." in name}


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_ranks_fall_to_the_budget_and_stay_there(monkeypatch):
    """Of 30 steps the first 3 keep every rank; from step 24 on target_r ranks a layer are left, wherever they lie."""
    model, train, test = problem()
    left, update = [], RankAllocation.update

    def counted(self):
        update(self)
        left.append(sum(int((values != 0).sum()) for values in singular_values(model).values()))

    monkeypatch.setattr(RankAllocation, "update", counted)
    result = fit(model, train, test, 3, CONFIG, head="head")
    used = 3 * START  # the layer that is not used has zeros from the start
    assert len(left) == 30
    assert left[:3] == [used] * 3
    assert left == sorted(left, reverse=True)
    assert 0 < left[24] <= 4 * RANK  # the budget is one of all four layers
    assert left[24:] == [left[24]] * 6
    pattern = model.peft_config["default"].rank_pattern
    kept = {name: torch.tensor(flags) for name, flags in pattern.items()}
    assert sum(int(flags.sum()) for flags in kept.values()) == 4 * RANK
    for name, values in singular_values(model).items():
        assert not values[~kept[name.removeprefix("base_model.model.")]].any()
    assert result.untouched == ("base_model.model.unused.lora_E.default",)  # the penalty moves its other factors
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]


def test_the_saved_adapter_has_the_ranks_that_are_left(tmp_path):
    model, train, test = problem()
    fit(model, train, test, 3, CONFIG, head="head")
    images = test.tensors[0]
    wanted = model.eval()(images)
    model.save_pretrained(tmp_path)
    torch.manual_seed(0)
    loaded = PeftModel.from_pretrained(Network(), tmp_path).eval()
    torch.testing.assert_close(loaded(images), wanted)
    ranks = [len(values) for values in singular_values(loaded).values()]
    assert sum(ranks) == 4 * RANK
    torch.testing.assert_close(loaded.merge_and_unload()(images), wanted)


def test_the_penalty_is_its_formula():
    """0.5 times the mean of ||A A' - I|| and ||B' B - I|| over layers; peft adds the same to losses that it sees."""

    class WithLoss(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 6, 3), nn.Linear(4, 5)

        def forward(self):
            return SimpleNamespace(loss=torch.zeros(()))

    torch.manual_seed(0)
    config = AdaLoraConfig(init_r=3, target_r=2, total_step=10, target_modules=["first", "second"])
    model = get_peft_model(WithLoss(), config)
    allocation = allocation_of(model, CONFIG, 10)
    distances = []
    for name, factor in model.named_parameters():
        if ".lora_A." in name or ".lora_B." in name:
            factor = factor.detach()
            vectors = factor if ".lora_A." in name else factor.T
            products = [[float(one @ other) for other in vectors] for one in vectors]
            gaps = [(products[i][j] - (i == j)) ** 2 for i in range(3) for j in range(3)]
            distances.append(sum(gaps) ** 0.5)
    assert len(distances) == 4
    found = allocation.penalty()
    assert float(found) == pytest.approx(0.5 * sum(distances) / 4, rel=1e-5)
    torch.testing.assert_close(found, model.base_model().loss)


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("after", [1, 3, 4])
def test_an_interrupted_run_ends_with_the_same_bits(after, tmp_path):
    """Stopped while ranks fall, and after they have."""
    model, train, test = problem()
    whole = fit(model, train, test, 3, CONFIG, head="head")
    expected, pattern = state(model), model.peft_config["default"].rank_pattern

    def stop(row):
        if row["epoch"] == after:
            raise Interrupted

    model, train, test = problem()
    with pytest.raises(Interrupted):
        fit(model, train, test, 3, CONFIG, head="head", folder=tmp_path, on_epoch=stop)
    model, train, test = problem()
    resumed = fit(model, train, test, 3, CONFIG, head="head", folder=tmp_path)
    assert resumed.resumed_from_epoch == after
    assert same(state(model), expected)
    assert model.peft_config["default"].rank_pattern == pattern
    assert torch.equal(resumed.confusion, whole.confusion)


def test_parts_of_a_batch_give_the_same_run():
    ends = []
    for accumulation in (1, 2):
        model, train, test = problem()
        config = TrainingConfig(epochs=1, batch_size=10, accumulation=accumulation, mixed_precision="no")
        fit(model, train, test, 3, config, head="head")
        ends.append(state(model))
    for name, tensor in ends[0].items():
        torch.testing.assert_close(tensor, ends[1][name], atol=1e-5, rtol=1e-3)


def test_other_models_have_no_allocation():
    for method in ("lora", "linear", "ssf"):
        model = inject(Network(), method, "head", options=MethodOptions(rank=RANK)).model
        assert allocation_of(model, CONFIG, 10) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ema_decay": 0.99}, "ema_decay keeps weights of steps whose ranks were others"),
        ({"patience": 2, "validation": True}, "patience keeps weights of steps whose ranks were others"),
    ],
)
def test_settings_that_keep_other_ranks_are_refused(settings, message):
    with pytest.raises(FiltersubError, match=message):
        TuneSettings(method="adalora", **settings)
    assert TuneSettings(method="lora", **settings)


def test_scaled_gradients_are_refused():
    with pytest.raises(FiltersubError, match="AdaLoRA reads gradients, which fp16 training scales"):
        TuneSettings(method="adalora", mixed_precision="fp16")
