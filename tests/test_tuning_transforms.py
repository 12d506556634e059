"""Unmerged models that are traced, exported, transformed, fused or offloaded: the tuned network, or one clear line."""

import copy
import subprocess
import sys

import pytest
import torch
from accelerate import cpu_offload, disk_offload, dispatch_model
from peft import get_peft_model
from torch import nn
from torch.func import functional_call, grad, jvp, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from filtersub.errors import FiltersubError
from filtersub.tuning import FilterSubspaceConfig, FilterSubspaceLayer

MODES = {
    "plain": {"solver": "lasso"},
    "packed blocks": {"solver": "lasso", "block": 4, "l1_penalty": 0.1},
    "kernels as source": {"solver": "pca", "block": 4},
    "spatial blocks": {"solver": "pca", "block": 2, "block_spatial": True},
    "expanded blocks": {"solver": "lasso", "block": 4, "expansion": 2, "expansion_coefficients": "per-channel"},
    "coefficients too": {"solver": "pca", "block": 2, "train_coefficients": True},
}
X = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(1))


def build():
    torch.manual_seed(0)
    body = [
        nn.Conv2d(4, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 1),
        nn.ConvTranspose2d(8, 4, 2),
    ]
    return nn.Sequential(*body, nn.Conv2d(4, 4, 3, groups=4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 8))


def tuned_of(mode, net=None, **options):
    targets = ["0", "3", "4", "5", "8"] if net is None else None
    config = FilterSubspaceConfig(atoms=3, target_modules=targets, **{**MODES[mode], **options})
    tuned = get_peft_model(net or build(), config).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in tuned.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.2, generator=generator)
    return tuned


@pytest.fixture(params=MODES)
def tuned(request):
    return tuned_of(request.param)


def by_hand(tuned):
    """The plain network with each weight replaced by base weight + update."""
    plain = copy.deepcopy(tuned).unload()
    for layer in (module for module in tuned.modules() if isinstance(module, FilterSubspaceLayer)):
        weight = layer.get_base_layer().weight + layer.get_delta_weight("default")
        plain.get_submodule(layer.name).weight = nn.Parameter(weight.detach().clone())
    return plain


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_traces_are_of_the_tuned_network(tuned):
    expected = by_hand(tuned)(X)
    traced = torch.jit.trace(tuned, (X,))
    close(traced(X), expected)
    close(make_fx(lambda x: tuned(x))(X)(X), expected)


@pytest.mark.parametrize("strict", [False, True])
def test_exported_files_load_without_this_package(request, tuned, strict, tmp_path):
    expected = by_hand(tuned)(X)
    exported = torch.export.export(tuned, (X,), strict=strict)
    called = [str(node.target) for node in exported.graph.nodes if node.op == "call_function"]
    assert called
    assert all(name.startswith(("aten.", "<built-in function getitem>")) for name in called)
    torch.export.save(exported, tmp_path / "net.pt2")
    torch.save((X, expected), tmp_path / "pair.pt")
    code = (
        "import sys, torch\n"
        "x, expected = torch.load('pair.pt')\n"
        "found = torch.export.load('net.pt2').module()(x)\n"
        "assert 'filtersub' not in sys.modules\n"
        "torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)\n"
    )
    if "packed blocks-False" in request.node.name:  # once, in a process that has never seen this package
        subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    else:
        close(torch.export.load(tmp_path / "net.pt2").module()(X), expected)


@pytest.mark.parametrize("dynamo", [False, True])
def test_onnx_computes_the_tuned_network(tuned, dynamo, tmp_path):
    pytest.importorskip("onnx", reason="onnx is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    if dynamo:
        pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    torch.onnx.export(tuned, (X,), tmp_path / "net.onnx", dynamo=dynamo, input_names=["x"])
    session = runtime.InferenceSession(str(tmp_path / "net.onnx"))
    (found,) = session.run(None, {session.get_inputs()[0].name: X.numpy()})
    close(torch.from_numpy(found), by_hand(tuned)(X).detach())


def test_gradients_of_each_sample_are_those_of_the_sample_alone(tuned):
    trained = {name: p.detach() for name, p in tuned.named_parameters() if p.requires_grad}

    def loss(parameters, x):
        return functional_call(tuned, parameters, (x[None],)).square().sum()

    found = vmap(grad(loss), in_dims=(None, 0))(trained, X)
    for number, x in enumerate(X):
        tuned.zero_grad()
        tuned(x[None]).square().sum().backward()
        for name, parameter in tuned.named_parameters():
            if parameter.requires_grad:
                close(found[name][number], parameter.grad)


def test_forward_mode_derivatives_are_those_of_the_plain_network(tuned):
    plain = by_hand(tuned)
    direction = torch.randn(X.shape, generator=torch.Generator().manual_seed(3))
    expected = jvp(plain, (X,), (direction,))[1]
    close(jvp(tuned, (X,), (direction,))[1], expected)
    with torch.autograd.forward_ad.dual_level():
        out = tuned(torch.autograd.forward_ad.make_dual(X, direction))
        close(torch.autograd.forward_ad.unpack_dual(out).tangent, expected)


@pytest.mark.parametrize("name", ["repvgg_a0", "mobileone_s0", "repvit_m0_9"])
def test_timm_fuses_the_tuned_network(name):
    timm = pytest.importorskip("timm")
    from timm.utils import reparameterize_model

    torch.manual_seed(0)
    net = timm.create_model(name, num_classes=5).eval()
    tuned = tuned_of("plain", net, solver="pca")
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        wanted = tuned(x)
        fused = reparameterize_model(copy.deepcopy(tuned))
        torch.testing.assert_close(fused(x), wanted, rtol=1e-4, atol=1e-5)
        with tuned.disable_adapter():
            assert not torch.allclose(tuned(x), wanted, rtol=1e-3, atol=1e-4)


def test_feature_extractors_are_told_to_merge_first():
    from torchvision.models.feature_extraction import create_feature_extractor

    tuned = tuned_of("plain")
    with pytest.raises(FiltersubError, match="call merge_and_unload first"):
        create_feature_extractor(tuned.base_model.model, ["3"])
    wanted = nn.Sequential(*list(by_hand(tuned))[:4])(X)
    extractor = create_feature_extractor(tuned.merge_and_unload(), {"3": "out"})
    close(extractor(X)["out"], wanted)


@pytest.mark.parametrize("how", ["cpu", "disk"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("mode", ["plain", "packed blocks", "coefficients too"])
def test_offloaded_models_compute_with_the_numbers_that_are_kept_elsewhere(mode, when, how, tmp_path):
    expected = by_hand(tuned_of(mode))(X)

    def offload(model):
        if how == "cpu":
            return cpu_offload(model, execution_device=torch.device("cpu"))
        return disk_offload(model, tmp_path, execution_device=torch.device("cpu"))

    if when == "before":
        tuned = _before(mode, offload)
    else:
        tuned = offload(tuned_of(mode))
    assert tuned.base_model.model[0].get_base_layer().weight.is_meta
    with torch.no_grad():
        close(tuned(X), expected)
        close(tuned(X), expected)
    if when == "before":
        tuned(X).square().sum().backward()
        plain = tuned_of(mode)
        plain(X).square().sum().backward()
        for (_, one), (_, other) in zip(tuned.named_parameters(), plain.named_parameters(), strict=True):
            if one.requires_grad:
                close(one.grad, other.grad)


def _before(mode, offload):
    net = offload(build())
    config = FilterSubspaceConfig(atoms=3, target_modules=["0", "3", "4", "5", "8"], **MODES[mode])
    tuned = get_peft_model(net, config).eval()
    with torch.no_grad():
        for (_, into), (_, value) in zip(tuned.named_parameters(), tuned_of(mode).named_parameters(), strict=True):
            if into.requires_grad:
                into.copy_(value)
    return tuned


def test_a_model_dispatched_to_several_places_is_the_tuned_one():
    tuned = tuned_of("packed blocks")
    expected = by_hand(tuned)(X)
    dispatched = dispatch_model(tuned, {"": "cpu"}, force_hooks=True)
    with torch.no_grad():
        close(dispatched(X), expected)


def test_numbers_that_nobody_filled_are_never_computed_with():
    with torch.device("meta"):
        net = build()
    tuned = get_peft_model(net, FilterSubspaceConfig(atoms=3, solver="pca", block=2))
    with pytest.raises(FiltersubError, match="made on the meta device"):
        copy.deepcopy(tuned).to_empty(device="cpu")
    filled = build().state_dict()
    there = {name: name.replace(".base_layer", "").removeprefix("base_model.model.") for name in tuned.state_dict()}
    state = {name: filled[plain] for name, plain in there.items() if plain in filled}
    tuned.load_state_dict(state, strict=False, assign=True)
    assert not any(parameter.is_meta for name, parameter in tuned.named_parameters() if "base_layer" in name)
    with pytest.raises(FiltersubError, match="holds no numbers"):
        tuned(X)
    fresh = get_peft_model(build(), FilterSubspaceConfig(atoms=3, solver="pca"), low_cpu_mem_usage=True)
    with pytest.raises(FiltersubError, match="holds no numbers"):
        fresh(X)
    with pytest.raises(FiltersubError, match="holds no numbers"):
        fresh.merge_adapter()


class Quantised(torch.Tensor):
    """Stands for the tensor classes of quantisation libraries."""

    @staticmethod
    def __new__(cls, weight):
        return torch.Tensor._make_subclass(cls, weight)


@pytest.mark.parametrize("weight", ["a class of its own", "int8"])
def test_weights_that_are_no_plain_numbers_are_refused_before_anything_is_wrapped(weight):
    net = build()
    values = net[3].weight.detach()
    stored = Quantised(values) if weight == "a class of its own" else (values * 100).to(torch.int8)
    net[3].weight = nn.Parameter(stored, requires_grad=False)
    with pytest.raises(FiltersubError, match=r"layer '3' has a weight of type .* \(quantised or sharded\)"):
        get_peft_model(net, FilterSubspaceConfig(atoms=3, block=2, solver="pca"))
    assert not any(isinstance(module, FilterSubspaceLayer) for module in net.modules())
    get_peft_model(net, FilterSubspaceConfig(atoms=3, block=2, solver="pca", exclude_modules=["3"]))
