"""Models by name, with weights that are what they claim to be."""

import copy
import pickle

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.utils import ModulesToSaveWrapper
from safetensors.torch import save_file
from sklearn.datasets import load_sample_images
from torch import nn
from torch.nn.functional import interpolate

from filtersub import models
from filtersub.errors import FiltersubError
from filtersub.models import add_head_dropout_, head_name, input_statistics, load_model, load_weight_file

PALACE, DAISY = 698, 985  # classes of ImageNet-1K


def test_embedded_weights_know_a_palace_and_a_daisy():
    """Only the right mapping of all 296 tensors classifies these."""
    model = load_model("efficientnet_lite0")
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in input_statistics(model))
    for image, expected in zip(load_sample_images().images, (PALACE, DAISY), strict=True):
        pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
        scale = 256 / min(pixels.shape[2:])
        pixels = interpolate(pixels, scale_factor=scale, mode="bicubic", antialias=True)
        top, left = ((side - 224) // 2 for side in pixels.shape[2:])
        crop = pixels[:, :, top : top + 224, left : left + 224]
        with torch.no_grad():
            assert int(model((crop - mean) / std).argmax()) == expected


def test_a_new_head_leaves_the_rest_pretrained():
    plain, tuned = load_model("efficientnet_lite0"), load_model("efficientnet_lite0", num_classes=10)
    assert tuned.classifier.weight.shape[0] == 10
    own = tuned.state_dict()
    for name, tensor in plain.state_dict().items():
        if not name.startswith("classifier."):
            assert torch.equal(own[name], tensor), name


def test_a_new_head_is_drawn_as_a_linear_layer():
    # timm's own recipe of this architecture draws it from +-1/sqrt(classes), 11 times as wide
    head = load_model("efficientnet_lite0", num_classes=10).classifier
    bound = head.in_features**-0.5
    assert 0.99 * bound < float(head.weight.detach().abs().max()) <= bound


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("efficientnet_lite0", "classifier"),
        ("resnet50", "fc"),
        ("timm:convnext_base", "head.fc"),
        ("torchvision:resnet18", "fc"),
        ("torchvision:convnext_tiny", "classifier.2"),
    ],
)
def test_architectures_by_name_on_the_meta_device(name, head):
    model = load_model(name, device="meta", num_classes=7)
    assert head_name(model) == head
    assert model.get_submodule(head).weight.shape[0] == 7
    assert all(p.device.type == "meta" for p in model.parameters())


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_local_files_of_weights(tmp_path, suffix):
    source = load_model("resnet18", pretrained=False)
    path = tmp_path / f"weights{suffix}"
    save_file(source.state_dict(), path) if suffix == ".safetensors" else torch.save(source.state_dict(), path)
    loaded = load_model("resnet18", weights=path)
    assert torch.equal(loaded.layer4[1].conv2.weight, source.layer4[1].conv2.weight)


def test_files_that_do_not_fit_are_named(tmp_path):
    tensors = load_model("resnet18", pretrained=False).state_dict()
    cases = {
        "lacks 1 tensors of the model, conv1.weight": {k: v for k, v in tensors.items() if k != "conv1.weight"},
        "has 1 tensors that the model has not, odd": {**tensors, "odd": torch.zeros(2)},
        r"conv1.weight of shape \(64, 3, 3, 3\)": {**tensors, "conv1.weight": torch.zeros(64, 3, 3, 3)},
        "NaN or infinite weights in conv1.weight": {**tensors, "conv1.weight": tensors["conv1.weight"] / 0},
    }
    for number, (message, state) in enumerate(cases.items()):
        path = tmp_path / f"{number}.pth"
        torch.save(state, path)
        with pytest.raises(FiltersubError, match=message):
            load_model("resnet18", weights=path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_missing_and_truncated_files_are_named(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    with pytest.raises(FiltersubError, match="no file of weights at"):
        load_weight_file(path)
    state = {"a": torch.randn(100, 100)}
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(FiltersubError, match="truncated"):
        load_weight_file(path)


def test_pickles_are_not_executed(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    torch.save({"weight": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(FiltersubError, match="cannot be read as weights"):
        load_weight_file(tmp_path / "trap.pth")
    assert not (tmp_path / "sprung").exists()


def test_no_network_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(models, "_hub_answers", lambda: False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(FiltersubError, match="--weights FILE"):
        load_model("resnet18")


@pytest.fixture
def own_network():
    """The name of a network that a user has registered, as docs/own.md does."""
    from timm.models import _registry, register_model

    @register_model
    def network_of_a_test(num_classes: int = 1000, **_) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.Linear(6, num_classes))

    yield "network_of_a_test"
    del _registry._model_entrypoints["network_of_a_test"]


def test_random_weights_of_an_own_network_do_not_count_as_pretrained(own_network, tmp_path):
    with pytest.raises(FiltersubError, match=r"network_of_a_test has no weights of its own.*pretrained=False"):
        load_model(own_network, num_classes=2)
    model = load_model(own_network, pretrained=False, num_classes=2)
    save_file(model.state_dict(), tmp_path / "own.safetensors")
    loaded = load_model(own_network, weights=tmp_path / "own.safetensors", num_classes=2)
    assert torch.equal(loaded[1].weight, model[1].weight)


def test_unknown_models_are_named_with_a_near_miss():
    with pytest.raises(FiltersubError, match=r"'resnet5'.*resnet50"):
        load_model("resnet5")
    with pytest.raises(FiltersubError, match=r"did you mean 'efficientnet_lite0'\?$"):  # which two lists have
        load_model("EfficientNet_lite0")
    with pytest.raises(FiltersubError, match="torchvision has no such model"):
        load_model("torchvision:resnet5")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("efficientnet_lite0", "DropPath"), ("resnet18", "DropPath"), ("torchvision:convnext_tiny", "StochasticDepth")],
)
def test_drop_path_grows_to_the_rate_over_the_blocks(name, kind):
    model = load_model(name, pretrained=False, drop_path=0.3, device="meta")
    found = [module for module in model.modules() if type(module).__name__ == kind]
    rates = [getattr(module, "drop_prob", getattr(module, "p", None)) for module in found]
    assert len(rates) > 3
    assert rates == sorted(rates)
    assert 0.25 < rates[-1] <= 0.3
    off = load_model(name, pretrained=False, drop_path=0.0, device="meta")
    assert not any(getattr(module, "drop_prob", getattr(module, "p", 0)) for module in off.modules())
    assert set(model.state_dict()) == set(off.state_dict()) == set(load_model(name, device="meta").state_dict())


def test_drop_path_leaves_the_weights_and_the_judged_model_alone():
    images = torch.randn(2, 3, 32, 32)
    plain, dropping = load_model("efficientnet_lite0"), load_model("efficientnet_lite0", drop_path=0.5)
    with torch.no_grad():
        assert torch.equal(plain(images), dropping(images))
        assert not torch.equal(dropping.train()(images), dropping(images))


@pytest.mark.parametrize(
    ("name", "rate", "message"),
    [
        ("vgg11", 0.1, "vgg11 has no drop path: no block can be left out; leave drop_path out, or set it to 0"),
        ("torchvision:resnet18", 0.1, "resnet18 has no drop path"),
        ("densenet121", 0.1, "densenet121 has no drop path"),
        ("diffusers:nowhere", 0.1, "diffusers:nowhere has no drop path"),
        ("torchvision:swin_t", 0.1, r"the drop path of swin_t is fixed at 0\.2; leave drop_path out"),
        ("torchvision:swin_t", 0.0, r"the drop path of swin_t is fixed at 0\.2"),
        ("resnet18", 1.0, "drop_path must be at least 0 and below 1, got 1.0"),
        ("resnet18", -0.1, "drop_path must be at least 0"),
        ("resnet18", "a", "drop_path must be at least 0 and below 1, got 'a'"),
    ],
)
def test_drop_path_where_there_is_none(name, rate, message):
    with pytest.raises(FiltersubError, match=message):
        load_model(name, pretrained=False, drop_path=rate, device="meta")


def test_no_drop_path_is_wanted_where_there_is_none():
    assert load_model("vgg11", pretrained=False, drop_path=0.0, device="meta") is not None


def test_head_dropout_drops_inputs_of_the_head_while_training():
    """Ones through a head of ones: with half of 400 inputs dropped and the rest doubled, 400 on average."""
    body = nn.Sequential(nn.Flatten(), nn.Linear(400, 1, bias=False))
    nn.init.ones_(body[1].weight)
    add_head_dropout_(body, "1", 0.5)
    images = torch.ones(200, 1, 20, 20)
    with torch.no_grad():
        found = body(images)
        assert set((found / 2).flatten().tolist()) <= set(range(401))
        assert 390 < float(found.mean()) < 410  # 200 draws of standard deviation 20: seven of the mean's
        assert float(found.std()) > 10
        assert torch.equal(body.eval()(images), torch.full((200, 1), 400.0))
        copied = pickle.loads(pickle.dumps(copy.deepcopy(body))).train()
        assert float(copied(images).std()) > 10
    assert list(body.state_dict()) == ["1.weight"]


def test_head_dropout_goes_into_the_adapted_model_and_zero_is_nothing():
    model = load_model("efficientnet_lite0", num_classes=3)
    add_head_dropout_(model, "classifier", 0.0)
    assert not model.classifier._forward_pre_hooks
    add_head_dropout_(model, "classifier", 0.9)
    tuned = get_peft_model(model, LoraConfig(target_modules=["blocks.0.0.conv_pw"], modules_to_save=["classifier"]))
    torch.manual_seed(0)  # of some images all features that are kept are 0
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(tuned.eval()(images), tuned(images))
        for module in tuned.modules():
            if isinstance(module, ModulesToSaveWrapper):
                module.train()
        assert not torch.equal(tuned(images), tuned(images))


@pytest.mark.parametrize("rate", [1.0, -0.1, float("nan")])
def test_dropout_is_a_share(rate):
    with pytest.raises(FiltersubError, match="head_dropout must be at least 0 and below 1"):
        add_head_dropout_(nn.Sequential(nn.Linear(2, 2)), "0", rate)
