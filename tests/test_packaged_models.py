"""Networks whose weights are in packages: architecture, names of the tensors, what is said where they are missing."""

import re
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional

from filtersub.errors import FiltersubError
from filtersub.models import head_name, input_statistics, load_model
from filtersub.packaged_models import PACKAGED

SIZES = {  # parameters with the package's own head: the papers' and the packages' counts
    "efficientnet_lite0": 4_652_008,
    "efficientnet_lite1": 5_416_680,
    "efficientnet_lite2": 6_092_072,
    "mtcnn_onet": 385_442,
    "resnet50_thin": 5_877_954,
}


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A function that puts a file into a package of this name, as pip would."""

    def install(name, content):
        file = tmp_path / PACKAGED[name].package / PACKAGED[name].file
        file.parent.mkdir(parents=True)
        (tmp_path / PACKAGED[name].package / "__init__.py").write_text("raise RuntimeError('imported')")
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            torch.save(content, file)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, PACKAGED[name].package, raising=False)

    return install


@pytest.mark.parametrize("name", SIZES)
def test_the_architecture_stands_without_the_package(name):
    model = load_model(name, device="meta")
    assert sum(parameter.numel() for parameter in model.parameters()) == SIZES[name]
    tuned = load_model(name, pretrained=False, num_classes=7)
    assert tuned.get_submodule(head_name(tuned)).out_features == 7
    assert tuned(torch.zeros(2, 3, 48, 48)).shape == (2, 7)


@pytest.mark.parametrize("name", sorted(set(SIZES) - {"efficientnet_lite0"}))
def test_a_package_that_is_missing_is_named_with_its_command(name, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda package: None)
    with pytest.raises(FiltersubError, match=re.escape(f"not installed; {PACKAGED[name].obtain}")):
        load_model(name)


def test_tensors_of_another_implementation_are_taken_by_their_order(installed):
    plain = load_model("efficientnet_lite1", pretrained=False)
    theirs = {f"_there.{n}.{name.rpartition('.')[2]}": t for n, (name, t) in enumerate(plain.state_dict().items())}
    installed("efficientnet_lite1", theirs)
    loaded = load_model("efficientnet_lite1").state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in plain.state_dict().items())


def test_tensors_in_another_order_are_refused(installed):
    plain = load_model("efficientnet_lite1", pretrained=False).state_dict()
    installed("efficientnet_lite1", dict(reversed(list(plain.items()))))
    with pytest.raises(FiltersubError, match=r"the package's weights have .* where the model has"):
        load_model("efficientnet_lite1")


def output_network(tensors, images):
    """Three heads of O-Net as facenet-pytorch computes them, written out; here the one for face or no face."""
    x = images
    for place, pool in enumerate((3, 3, 2, None), 1):
        x = functional.conv2d(x, tensors[f"conv{place}.weight"], tensors[f"conv{place}.bias"])
        x = functional.prelu(x, tensors[f"prelu{place}.weight"])
        if pool:
            x = functional.max_pool2d(x, pool, 2, ceil_mode=True)
    x = x.permute(0, 3, 2, 1).flatten(1)
    x = functional.prelu(
        functional.linear(x, tensors["dense5.weight"], tensors["dense5.bias"]), tensors["prelu5.weight"]
    )
    return functional.linear(x, tensors["dense6_1.weight"], tensors["dense6_1.bias"])


def test_the_output_network_computes_what_its_package_does(installed):
    shapes = {
        **{
            f"conv{n}": shape
            for n, shape in enumerate([(32, 3, 3, 3), (64, 32, 3, 3), (64, 64, 3, 3), (128, 64, 2, 2)], 1)
        },
        **{"dense5": (256, 1152), "dense6_1": (2, 256), "dense6_2": (4, 256), "dense6_3": (10, 256)},
    }
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for layer, shape in shapes.items():
        scale = shape[1:].numel() if isinstance(shape, torch.Size) else torch.Size(shape[1:]).numel()
        tensors[f"{layer}.weight"] = torch.randn(shape, generator=generator) / scale**0.5
        tensors[f"{layer}.bias"] = torch.randn(shape[0], generator=generator)
        if not layer.startswith("dense6"):
            tensors[f"prelu{layer[-1]}.weight"] = torch.rand(shape[0], generator=generator)
    installed("mtcnn_onet", tensors)
    model, images = load_model("mtcnn_onet"), torch.randn(3, 3, 48, 48, generator=generator)
    torch.testing.assert_close(model(images), output_network(tensors, images), rtol=1e-4, atol=1e-5)


def test_the_thin_network_computes_what_its_graph_does(installed, tmp_path):
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    file = tmp_path / "graph.onnx"
    onnx.save(thin_graph(onnx), file)
    installed("resnet50_thin", file.read_bytes())
    model = load_model("resnet50_thin")
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in input_statistics(model))
    there = (255 * images - torch.tensor([123.0, 117.0, 104.0]).view(1, 3, 1, 1)).flip(1)  # blue, green, red
    session = runtime.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"input": there.permute(0, 2, 3, 1).contiguous().numpy()})
    got = torch.softmax(model((images - mean) / std), 1)
    torch.testing.assert_close(got, torch.from_numpy(expected), rtol=1e-4, atol=1e-6)


def thin_graph(onnx):
    """A graph as tf2onnx writes it for open_nsfw: NHWC input, batch norms folded, pooling padded on one side."""
    helper, from_array = onnx.helper, onnx.numpy_helper.from_array
    generator = torch.Generator().manual_seed(1)
    nodes, values = [helper.make_node("Transpose", ["input"], ["nchw"], perm=[0, 3, 1, 2])], []

    def convolution(name, taken, features, channels, size, stride):
        weight = torch.randn(features, channels, size, size, generator=generator) * (2 / (channels * size**2)) ** 0.5
        for kind, tensor in (("w", weight), ("b", 0.1 * torch.randn(features, generator=generator))):
            values.append(from_array(tensor.numpy(), f"{name}_{kind}"))
        options = {"strides": [stride] * 2, "pads": [size // 2] * 4, "kernel_shape": [size] * 2}
        nodes.append(helper.make_node("Conv", [taken, f"{name}_w", f"{name}_b"], [f"bn_{name}/Fused:0"], **options))
        return f"bn_{name}/Fused:0"

    def relu(taken):
        nodes.append(helper.make_node("Relu", [taken], [f"r{len(nodes)}"]))
        return nodes[-1].output[0]

    pool = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1]}
    nodes.append(helper.make_node("MaxPool", [relu(convolution("1", "nchw", 64, 3, 7, 2))], ["pooled"], **pool))
    x, channels = "pooled", 64
    for stage, (blocks, width) in enumerate(zip((3, 4, 6, 3), (32, 64, 128, 256), strict=True)):
        for block in range(blocks):
            name, stride = f"stage{stage}_block{block}", 2 if stage and not block else 1
            skip = convolution(f"{name}_proj_shortcut", x, 4 * width, channels, 1, stride) if not block else x
            inner = relu(convolution(f"{name}_branch2a", x, width, channels, 1, stride))
            inner = relu(convolution(f"{name}_branch2b", inner, width, width, 3, 1))
            inner = convolution(f"{name}_branch2c", inner, 4 * width, width, 1, 1)
            nodes.append(helper.make_node("Add", [inner, skip], [f"sum_{name}"]))
            x, channels = relu(f"sum_{name}"), 4 * width
    values += [from_array(torch.randn(1024, 2, generator=generator).numpy() / 32, "fc_w")]
    values += [from_array(torch.randn(2, generator=generator).numpy(), "fc_b")]
    nodes.append(helper.make_node("GlobalAveragePool", [x], ["mean"]))
    nodes.append(helper.make_node("Flatten", ["mean"], ["flat"]))
    nodes.append(helper.make_node("MatMul", ["flat", "fc_w"], ["product"]))
    nodes.append(helper.make_node("Add", ["product", "fc_b"], ["scores"]))
    nodes.append(helper.make_node("Softmax", ["scores"], ["outputs"], axis=1))
    shape = helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, [None, 64, 64, 3])
    out = helper.make_tensor_value_info("outputs", onnx.TensorProto.FLOAT, [None, 2])
    graph = helper.make_graph(nodes, "thin", [shape], [out], values)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_drop_path_is_refused_where_no_block_can_be_left_out():
    with pytest.raises(FiltersubError, match="mtcnn_onet has no drop path"):
        load_model("mtcnn_onet", pretrained=False, drop_path=0.1)


def test_nothing_of_a_package_is_imported(installed):
    tensors = load_model("efficientnet_lite2", pretrained=False).state_dict()
    installed("efficientnet_lite2", dict(tensors))  # its __init__ raises
    assert isinstance(load_model("efficientnet_lite2"), nn.Module)
