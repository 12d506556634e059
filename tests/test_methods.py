"""Every method through the one door: unchanged at the start, counted as trained, merged into what it computes."""

import copy
import sys
import warnings
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import nn
from transformers.pytorch_utils import Conv1D

from filtersub.decomposition import DecompositionConfig
from filtersub.errors import FiltersubError
from filtersub.methods import METHODS, MethodOptions, inject, merged, try_adapter
from filtersub.methods.features import scale_and_shift_
from filtersub.methods.options import MEANT_FOR
from filtersub.parameters import count_parameters, count_trained
from filtersub.tuning import FilterSubspaceLayer

sys.path.insert(0, str(Path(__file__).parents[1] / "docs" / "site"))
import support_table

OPTIONS = MethodOptions(rank=4, oft_block=4, boft_block=4)
RECIPE = DecompositionConfig(atoms=3, solver="pca")


def injected(method, model, **options):
    if method.startswith("tucker"):
        pytest.importorskip("lycoris", reason="the extra filtersub[lycoris]")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return inject(model, method, "classifier", recipe=RECIPE, options=OPTIONS, **options)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_starts_as_the_model_and_trains_what_is_counted(method, every_kind, images):
    before = every_kind(images)
    counted = count_parameters(every_kind, method, recipe=RECIPE, options=OPTIONS)
    found = injected(method, every_kind)
    torch.testing.assert_close(found.model(images), before, atol=1e-6, rtol=1e-5)
    trained = count_trained(found.model, "classifier", "every kind", method, counted.total)
    taken = [layer.trainable for layer in counted.layers if layer.name not in found.skipped]
    assert trained.trainable == (sum(taken) if counted.layers else counted.trainable)
    assert trained.head == counted.head
    assert (trained.trainable > 0) == (method != "linear")
    found.model.train()(images).square().sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in found.model.parameters())


@pytest.mark.parametrize("method", METHODS)
def test_merged_weights_compute_what_was_trained(method, every_kind, images):
    before = every_kind(images)
    model = injected(method, every_kind).model.eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    wanted = model(images).detach()
    assert not torch.allclose(wanted, before, atol=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = merged(model, method)
    torch.testing.assert_close(plain(images), wanted, atol=1e-4, rtol=1e-3)
    if method not in ("lora", "dora"):  # peft cannot merge these into grouped convolutions
        assert not isinstance(plain, PeftModel)


@pytest.mark.parametrize("method", ["lora", "bitfit", "norm", "ssf"])
def test_a_pattern_restricts_the_layers(method, every_kind):
    pattern = "norm" if method == "norm" else "stem|pointwise"
    model = injected(method, every_kind, layers=pattern).model
    trained = [name for name, p in model.named_parameters() if p.requires_grad and "classifier" not in name]
    assert trained
    assert all(any(part in name for part in pattern.split("|")) for name in trained)


def test_what_cannot_take_part_is_said_with_its_reason(every_kind):
    found = injected("boft", every_kind)
    assert "groups" in found.skipped["grouped"]
    assert not any("pointwise" in name for name in found.skipped)
    with pytest.raises(FiltersubError, match="boft takes no layer of the model by the pattern 'depthwise'; depthwise"):
        injected("boft", copy.deepcopy(found.model.unload()), layers="depthwise")


def test_a_pattern_of_one_name_means_that_layer_alone(every_kind):
    """peft takes a list of names as endings, and ``stem`` then means every stem."""
    nested = nn.ModuleDict({"stem": nn.Conv2d(3, 4, 3), "inner": nn.ModuleDict({"stem": nn.Conv2d(4, 4, 3)})})
    nested["classifier"] = nn.Linear(4, 2)
    model = injected("filter-subspace", nested, layers="^stem$").model
    assert [layer.name for layer in model.modules() if isinstance(layer, FilterSubspaceLayer)] == ["stem"]


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.attend = nn.Conv2d(3, 8, 4, stride=4), nn.MultiheadAttention(8, 2, batch_first=True)
        self.mix, self.classifier = nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, images):
        x = self.embed(images).flatten(2).mT
        return self.classifier(self.mix(self.attend(x, x, x)[0]).mean(1))


@pytest.mark.parametrize("method", ["filter-subspace", "lora", "loha"])
def test_a_layer_that_is_never_run_is_passed_over_and_named(method, images):
    """torch's attention reads the weight of its last layer: an adapter around that layer would train nothing."""
    recipe = DecompositionConfig(atoms=3, block=2, solver="pca")
    found = inject(Attention(), method, "classifier", recipe=recipe, options=OPTIONS)
    assert found.skipped["attend.out_proj"] == "attention reads its weight and never runs the layer"
    found.model.train()(images).square().sum().backward()
    trained = {name: p for name, p in found.model.named_parameters() if p.requires_grad}
    assert any("mix" in name for name in trained)
    assert all(p.grad is not None for p in trained.values())
    with pytest.raises(FiltersubError, match="no layer"):
        inject(Attention(), method, "classifier", recipe=recipe, options=OPTIONS, layers="out_proj")


def test_methods_without_a_layer_are_refused(every_kind):
    with pytest.raises(FiltersubError, match=r"norm tunes .*, and the model has none by the pattern 'stem'"):
        injected("norm", every_kind, layers="stem")
    assert all(p.requires_grad for p in every_kind.parameters())
    with pytest.raises(FiltersubError, match="unknown method 'magic'; known: filter-subspace, linear, full, bitfit"):
        injected("magic", every_kind)
    with pytest.raises(FiltersubError, match="adapter_scale must be a positive number"):
        MethodOptions(adapter_scale=0)


@pytest.mark.parametrize("method", ["filter-subspace", "lora", "ia3"])
@pytest.mark.parametrize("name", ["refc", "fc"])
def test_a_module_whose_name_ends_like_the_head_stays_frozen(name, method, tmp_path):
    """peft takes both for the head: the other must not be trained, and a saved adapter must load."""
    torch.manual_seed(0)
    body = nn.Sequential(OrderedDict([(name, nn.Linear(4, 4)), ("mix", nn.Linear(4, 4))]))
    model = nn.Sequential(OrderedDict(body=body, fc=nn.Linear(4, 2)))
    untouched, rows = copy.deepcopy(model), torch.randn(3, 4)
    found = inject(model, method, "fc", recipe=DecompositionConfig(block=2, solver="pca"), options=OPTIONS)
    assert "its name ends in that of the head" in found.skipped[f"body.{name}"]
    trained = {n for n, p in found.model.named_parameters() if p.requires_grad}
    assert not any(f"body.{name}" in each for each in trained)
    assert any("body.mix" in each for each in trained)
    assert any(each.startswith("base_model.model.fc.") for each in trained)
    with torch.no_grad():
        for parameter in found.model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1)
    found.model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(untouched, tmp_path)
    assert torch.equal(loaded(rows), found.model(rows))


def test_trying_draws_no_random_number_and_leaves_the_layer_alone():
    layer = nn.Conv2d(8, 8, 3)
    kept, state = layer.weight.clone(), torch.get_rng_state()
    assert try_adapter("lora", layer, OPTIONS).merges
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(layer.weight, kept)
    assert list(dict(layer.named_parameters())) == ["weight", "bias"]


def test_rotations_of_patches_that_change_the_start_are_refused():
    """peft folds the rotated patches of k x k kernels back by adding their overlaps."""
    assert "output at the start" in try_adapter("oft", nn.Conv2d(8, 8, 3), OPTIONS).refusal
    assert try_adapter("oft", nn.Conv2d(8, 8, 1), OPTIONS).word == "yes"


def test_the_guide_has_the_table_of_the_installed_peft():
    guide = (Path(__file__).parents[1] / "docs" / "training.md").read_text()
    assert support_table.markdown() in guide


LAYERS = {
    **support_table.KINDS,
    "transposed, grouped": lambda: nn.ConvTranspose2d(16, 32, 3, groups=4),
    "Conv1D": lambda: Conv1D(32, 16),
    "batch norm": lambda: nn.BatchNorm2d(16).eval(),
    "layer norm": lambda: nn.LayerNorm(16),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_scale_and_shift_is_that_of_the_output(kind):
    torch.manual_seed(0)
    layer = LAYERS[kind]()
    flat = kind in ("linear", "Conv1D", "layer norm")
    sides = {"one dimension": 1, "three dimensions": 3}.get(kind, 2)
    example = torch.randn(2, 16) if flat else torch.randn(2, 16, *[9] * sides)
    plain = layer(example).detach()
    model = nn.ModuleDict({"layer": layer})
    scale_and_shift_(model, ["layer"])
    assert torch.equal(model["layer"](example), plain)
    scale = model["layer"].parametrizations.weight[0].scale
    shift = model["layer"].parametrizations.bias[0].shift
    assert scale.numel() == shift.numel() == plain.shape[1]
    with torch.no_grad():
        scale.normal_()
        shift.normal_()
    shape = (1, -1) + (1,) * (plain.ndim - 2)
    wanted = (scale.view(shape) * plain + shift.view(shape)).detach()
    torch.testing.assert_close(model["layer"](example), wanted, atol=1e-5, rtol=1e-5)
    merged(model, "ssf")
    torch.testing.assert_close(model["layer"](example), wanted, atol=1e-5, rtol=1e-5)
    assert sorted(dict(model.named_parameters())) == ["layer.bias", "layer.weight"]


@pytest.mark.parametrize("method", ["lora", "lora-loralib", "dora", "loha", "lokr", "hra", "hira"])
def test_a_rank_that_no_layer_has_is_refused_before_memory_is_taken(method, every_kind):
    before = {name: p.clone() for name, p in every_kind.named_parameters()}
    with pytest.raises(FiltersubError, match=r"rank 1000000 is more than any layer has: \d+ at most, that of \w+"):
        inject(every_kind, method, "classifier", options=MethodOptions(rank=10**6))
    assert all(torch.equal(p, before[name]) and p.requires_grad for name, p in every_kind.named_parameters())


@pytest.mark.parametrize("method", MEANT_FOR["update_dropout"])
def test_update_dropout_drops_inputs_of_the_update_while_training(method):
    """The layer's own output stays, what the update adds differs from pass to pass; judged, nothing is dropped."""
    torch.manual_seed(0)
    model = nn.Sequential(OrderedDict(mix=nn.Linear(40, 40), classifier=nn.Linear(40, 3)))
    found = {}
    for rate in (0.0, 0.5):
        torch.manual_seed(1)
        options = MethodOptions(rank=4, update_dropout=rate)
        tuned = inject(copy.deepcopy(model), method, "classifier", options=options).model
        with torch.no_grad():
            for name, parameter in tuned.named_parameters():
                if parameter.requires_grad and "classifier" not in name:
                    parameter.normal_(std=0.3, generator=torch.Generator().manual_seed(len(name)))
            x = torch.randn(5, 40, generator=torch.Generator().manual_seed(2))
            found[rate] = tuned.eval()(x), tuned.train()(x), tuned(x)
    assert torch.equal(found[0.5][0], found[0.0][0])
    assert torch.equal(found[0.0][1], found[0.0][0])
    assert not torch.allclose(found[0.5][1], found[0.5][2])
