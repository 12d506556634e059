"""Batch norms that stand still are folded into convolutions: the same outputs and gradients, without their passes."""

import pytest
import timm
import torch
from peft import LoraConfig, get_peft_model
from timm.layers import ScaledStdConv2d
from torch import nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from filtersub import folded_norms
from filtersub.folded_norms import folding
from filtersub.training import TrainingConfig, classification, fit, foldable_norms, needed_activations
from filtersub.tuning import FilterSubspaceConfig
from filtersub.tuning import layer as layer_module
from filtersub.tuning.layer import tuned_layers

NETWORKS = {  # name -> (batch norms, those that a convolution alone is read by)
    "efficientnet_lite0": (49, 49),
    "resnet18": (20, 20),
    "densenet121": (121, 59),  # the others follow a concatenation or a pool
    "vgg11_bn": (8, 8),  # convolutions with biases
}
METHODS = {
    "head": None,
    "full": "full",
    "setting 1": {"solver": "pca"},
    "setting 1, sparse": {"max_rounds": 0, "atoms": 9},
    "setting 2": {"solver": "pca", "expansion": 2},
    "setting 3": {"solver": "pca", "block": 4},
    "setting 3, sparse": {"max_rounds": 0, "atoms": 9, "block": 4},
}


@pytest.fixture(autouse=True)
def small_images_too(monkeypatch):
    """Folded although a pass over their few positions takes less time than one over the weight."""
    monkeypatch.setattr(folded_norms, "FEWEST", 0)


def norms_of(model):
    return [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def standing_still(model):
    """In evaluation mode, with statistics and weights that are not those a batch norm starts with."""
    for norm in norms_of(model):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        if norm.affine:
            norm.weight.data.uniform_(0.5, 1.5)
            norm.bias.data.normal_()
    return model.eval()


def tuned(model, method, **targets):
    """With atoms that are not zero."""
    if method == "full":
        return model
    if method is None:
        model.requires_grad_(False)
        list(model.children())[-1].requires_grad_(True)
        return model
    model = get_peft_model(model, FilterSubspaceConfig(**targets, **method))
    for _, layer in tuned_layers(model):
        for atoms in layer.filtersub_atoms.values():
            atoms.data.normal_(0, 0.01)
    return model


def output_and_gradients(model, images, pairs, monkeypatch):
    """And how many batch norms ran."""
    images, ran, torchs = images.clone().requires_grad_(), [], torch.batch_norm
    with monkeypatch.context() as patched, needed_activations(pairs):
        patched.setattr(torch, "batch_norm", lambda *a: ran.append(1) or torchs(*a))
        output = model(images)
        own = {"images": images} | {name: p for name, p in model.named_parameters() if p.requires_grad}
        total = (output * torch.arange(output.numel()).view_as(output).cos()).sum()
        gradients = torch.autograd.grad(
            total, [*own.values()], allow_unused=True, materialize_grads=True
        )  # merged atoms have none
    return output.detach(), dict(zip(own, gradients, strict=True)), len(ran)


def assert_same(found, expected):
    torch.testing.assert_close(found[0], expected[0], rtol=1e-9, atol=1e-9)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in found[1].items():
        largest = float(expected[1][name].abs().max())
        torch.testing.assert_close(gradient, expected[1][name], rtol=1e-8, atol=1e-9 * largest)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_and_gradients_are_those_of_the_network_as_it_is(name, method, monkeypatch):
    torch.manual_seed(0)
    n_norms, n_followers = NETWORKS[name]
    model = standing_still(timm.create_model(name, num_classes=3)).double()
    targets = {"target_modules": r".*(conv|features)\S*", "exclude_modules": ".*(classifier|fc|head).*"}
    model = tuned(model, METHODS[method], **targets).to(memory_format=torch.channels_last).eval()
    images = torch.randn(3, 3, 64, 64, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    pairs = foldable_norms(model, images[:2])
    expected = output_and_gradients(model, images, None, monkeypatch)
    assert expected[2] == n_norms
    found = output_and_gradients(model, images, pairs, monkeypatch)
    assert_same(found, expected)
    assert found[2] == n_norms - len(pairs)
    assert len(pairs) == n_followers
    with torch.no_grad(), needed_activations(pairs):
        torch.testing.assert_close(model(images), expected[0], rtol=1e-9, atol=1e-9)


def test_sums_of_two_convolutions_keep_their_norm(monkeypatch):
    """Those of LoRA."""
    torch.manual_seed(0)
    base = standing_still(timm.create_model("resnet18", num_classes=3)).double()
    model = get_peft_model(base, LoraConfig(r=4, target_modules=".*conv1", init_lora_weights=False)).eval()
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    pairs = foldable_norms(model, images)
    expected, found = (output_and_gradients(model, images, each, monkeypatch) for each in (None, pairs))
    assert_same(found, expected)
    assert (len(pairs), expected[2] - found[2]) == (11, 11)  # eight second convolutions, three of shortcuts


class Odd(nn.Module):
    """A convolution and its batch norm, with something between or beside them."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        layer = ScaledStdConv2d if kind == "a computed weight" else nn.Conv2d
        layer = nn.ConvTranspose2d if kind == "transposed" else layer
        self.first, self.norm, self.last = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), layer(8, 8, 3, padding=1)
        self.second = nn.BatchNorm2d(8)

    def forward(self, images):
        between = self.norm(self.first(images)).relu()
        inner = self.last(between)
        if self.kind == "scaled in place":
            inner.mul_(2)
        if self.kind == "something between":
            inner = inner.relu()
        out = self.second(inner)
        if self.kind == "read twice":
            out = out + inner
        if self.kind == "read without gradient":
            out = out + inner.detach()
        if self.kind == "a shared convolution":
            out = out + self.last(between.sigmoid())
        if self.kind == "a shared norm":
            out = self.second(out)
        return out.mean((2, 3))


KINDS = {
    "plain": 2, "scaled in place": 1, "something between": 1, "read twice": 1, "a shared convolution": 1,
    "a shared norm": 1, "a computed weight": 1, "transposed": 1, "read without gradient": 0,
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_convolution_that_something_else_reads_is_left_alone(kind, monkeypatch):
    """Where a gradient does not show who reads, no norm is folded."""
    torch.manual_seed(0)
    model, images = standing_still(Odd(kind)).double(), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    pairs = foldable_norms(model, images)
    assert len(pairs) == KINDS[kind]
    expected, found = (output_and_gradients(model, images, each, monkeypatch) for each in (None, pairs))
    assert_same(found, expected)
    assert expected[2] - found[2] == len(pairs)


def test_maps_that_the_network_returns_too_stay_as_they_are():
    torch.manual_seed(0)

    class Returns(Odd):
        def forward(self, images):
            inner = self.last(self.norm(self.first(images)).relu())
            return {"scores": self.second(inner).mean((2, 3)), "maps": [inner]}

    model, images = standing_still(Returns("plain")), torch.randn(2, 3, 8, 8)
    pairs = foldable_norms(model, images)
    assert [norm for _, norm in pairs] == [model.norm]
    expected = model(images)
    with needed_activations(pairs):
        torch.testing.assert_close(model(images), expected)


@pytest.mark.parametrize("layers", [
    lambda: (nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), (2, 3, 9)),
    lambda: (nn.Conv3d(3, 4, 2, groups=1, bias=False), nn.BatchNorm3d(4, affine=False), (2, 3, 4, 3, 5)),
    lambda: (nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"), nn.BatchNorm2d(4), (2, 3, 6, 5)),
    lambda: (nn.Conv2d(3, 6, 3, stride=2, dilation=2, groups=3), nn.BatchNorm2d(6, eps=0.1), (2, 3, 9, 8)),
])  # fmt: skip
@pytest.mark.parametrize("trained", [True, False])
def test_any_convolution(layers, trained, monkeypatch):
    torch.manual_seed(0)
    convolution, norm, shape = layers()
    model = standing_still(nn.Sequential(convolution, norm)).double().requires_grad_(trained)
    images = torch.randn(shape, dtype=torch.float64)
    pairs = foldable_norms(model, images)
    assert pairs == [(convolution.weight, norm)]
    expected, found = (output_and_gradients(model, images, each, monkeypatch) for each in (None, pairs))
    assert_same(found, expected)
    assert (expected[2], found[2]) == (1, 0)


def one_layer(**options):
    """A decomposed convolution and its batch norm, and their pair."""
    torch.manual_seed(0)
    base = standing_still(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)))
    model = tuned(base.double(), {"solver": "pca", "target_modules": ["0"], **options}).eval()
    images = torch.randn(2, 8, 5, 5, dtype=torch.float64)
    return model, images, foldable_norms(model, images)


@pytest.mark.parametrize("state", ["disabled", "merged", "moving", "mixed precision", "hooked", "two steps"])
def test_whatever_a_layer_does_later_is_right(state, monkeypatch):
    """Pairs are found once; what is folded follows what the layers are then."""
    model, images, pairs = one_layer(**({"block": 2} if state == "two steps" else {}))
    assert len(pairs) == 1
    (_, layer), (norm,) = next(tuned_layers(model)), norms_of(model)
    if state == "merged":
        model.merge_adapter()
    if state == "moving":
        norm.train()
    if state == "hooked":
        layer.get_base_layer().register_forward_hook(lambda module, args, output: 2 * output)
    if state == "two steps":
        monkeypatch.setattr(layer_module, "takes_two_steps", lambda *a: True)
    if state == "mixed precision":
        model, images = model.float(), images.float()
    lower = torch.autocast("cpu", torch.bfloat16, enabled=state == "mixed precision")
    with lower, model.disable_adapter() if state == "disabled" else torch.enable_grad():
        expected, found = (output_and_gradients(model, images, each, monkeypatch) for each in (None, pairs))
    assert_same(found, expected)
    assert found[2] == (0 if state in ("disabled", "two steps") else 1)


def test_gradients_of_gradients():
    model, images, pairs = one_layer()
    (_, layer) = next(tuned_layers(model))
    atoms, images = layer.filtersub_atoms["default"], images[:1, :, :3, :3].clone().requires_grad_()
    with needed_activations(pairs):
        assert folding.norm_behind(layer.get_base_layer().weight, images, 1) is norms_of(model)[0]
        assert torch.autograd.gradgradcheck(lambda *_: model(images).square(), (images, atoms))


def test_norms_that_train_alone_stay_apart(monkeypatch):
    """The gradient of their weights would ask for that of the kernels."""
    torch.manual_seed(0)
    model = standing_still(Odd("plain")).requires_grad_(False)
    pairs = foldable_norms(model, torch.randn(2, 3, 8, 8))
    for norm in norms_of(model):
        norm.requires_grad_()
    assert output_and_gradients(model, torch.randn(2, 3, 8, 8), pairs, monkeypatch)[2] == 2
    for norm in norms_of(model):
        norm.weight.requires_grad_(False)
    assert output_and_gradients(model, torch.randn(2, 3, 8, 8), pairs, monkeypatch)[2] == 0


def test_hooks_of_a_norm_see_what_they_saw():
    model = standing_still(Odd("plain"))
    model.second.register_forward_pre_hook(lambda module, arguments: None)
    assert [norm for _, norm in foldable_norms(model, torch.randn(2, 3, 8, 8))] == [model.norm]


def test_looking_changes_nothing():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.5))
    before, drawn = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    foldable_norms(model, torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)))
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert not folding.active
    assert all(p.grad is None for p in model.parameters())


def test_numbers_that_are_none_and_images_of_integers_fold_nothing():
    model = standing_still(Odd("plain"))
    assert foldable_norms(model, torch.full((2, 3, 8, 8), torch.nan)) == []
    assert foldable_norms(model, torch.zeros(2, 3, 8, 8, dtype=torch.uint8)) == []


def test_a_scaled_output_that_misses_its_norm_is_an_error():
    """A norm would do its work twice."""
    torch.manual_seed(0)
    model, images = standing_still(Odd("plain")), torch.randn(2, 3, 8, 8)
    pairs = foldable_norms(model, images)
    model.kind = "something between"
    with needed_activations(pairs), pytest.raises(RuntimeError, match="does not follow"):
        model(images)


def test_nothing_is_folded_where_another_library_has_replaced_batch_norm(monkeypatch):
    """Its function could not know what a convolution has done for it."""
    model, images, pairs = one_layer()
    expected = model(images)
    own = functional.batch_norm
    monkeypatch.setattr(functional, "batch_norm", lambda *a, **k: own(*a, **k))
    with needed_activations(pairs):
        assert torch.equal(model(images), expected)


@pytest.mark.parametrize("kind", ["plain", "decomposed"])
@pytest.mark.parametrize(("side", "stride", "ran"), [(8, 1, 0), (5, 1, 1), (16, 2, 0), (11, 2, 1)])
def test_few_positions_are_normalised_apart(kind, side, stride, ran, monkeypatch):
    """Kernels of 8 x 3 x 3 entries, folded from twice as many positions of the output on."""
    monkeypatch.undo()
    torch.manual_seed(0)
    model = standing_still(nn.Sequential(nn.Conv2d(8, 8, 3, stride, padding=1), nn.BatchNorm2d(8)))
    if kind == "decomposed":
        model = tuned(model, {"solver": "pca", "target_modules": ["0"]}).eval()
    images = torch.randn(3, 8, side, side)
    assert output_and_gradients(model, images, foldable_norms(model, images[:2]), monkeypatch)[2] == ran


def test_two_at_once_keep_their_own():
    (first, images, pairs), (second, _, others) = one_layer(), one_layer()
    one, two = needed_activations(pairs), needed_activations(others)
    weight, other = (next(tuned_layers(m))[1].get_base_layer().weight for m in (first, second))
    one.__enter__()
    two.__enter__()
    one.__exit__(None, None, None)
    assert folding.norm_behind(weight, images, 1) is None
    assert folding.norm_behind(other, images, 1) is norms_of(second)[0]
    two.__exit__(None, None, None)
    assert not folding.active


@pytest.mark.parametrize("batch_norm", ["frozen", "adapted", "recomputed", "updated"])
def test_training_folds_and_ends_where_it_ended(batch_norm, monkeypatch):
    """Steps where statistics stand still, judging always."""
    generator = torch.Generator().manual_seed(1)
    images, labels = torch.randn(60, 3, 10, 10, generator=generator), torch.arange(60) % 3
    data = TensorDataset(images + labels[:, None, None, None], labels)
    found, modes = [], set()
    is_done = type(folding).is_done

    def seen(self, input, mean):
        done = is_done(self, input, mean)
        if done:
            modes.add(torch.is_grad_enabled())
        return done

    monkeypatch.setattr(type(folding), "is_done", seen)
    for look in (foldable_norms, lambda *_: []):
        monkeypatch.setattr(classification, "foldable_norms", look)
        torch.manual_seed(0)
        body = standing_still(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()))
        model = nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
        config = TrainingConfig(epochs=2, batch_size=10, batch_norm=batch_norm, learning_rate=0.01)
        result = fit(model.double(), TensorDataset(data.tensors[0].double(), labels), data_of(data), 3, config)
        found.append((model.state_dict(), [row["test_loss"] for row in result.history]))
        assert modes == ({True, False} if batch_norm in ("frozen", "adapted") else {False})
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-9)


def data_of(data):
    return TensorDataset(data.tensors[0].double(), data.tensors[1])
