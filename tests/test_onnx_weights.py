"""Weights of layers in ONNX files: those that the network runs with, or one line that refuses."""

import numpy as np
import pytest
import torch
from torch import nn

from filtersub.decomposition import DecompositionConfig, decompose_model
from filtersub.errors import FiltersubError, WeightFileWarning
from filtersub.models import load_model
from filtersub.weight_file import load_weight_file

onnx = pytest.importorskip("onnx", reason="needs the package onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

RNG = np.random.default_rng(0)
KERNEL = RNG.normal(size=(6, 4, 3, 3)).astype(np.float32)


def stored(name, values):
    return numpy_helper.from_array(np.ascontiguousarray(values), name)


def value(name):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


def saved(folder, nodes, tensors, name="model.onnx", functions=(), **options):
    graph = helper.make_graph(nodes, "g", [value("x")], [value("y")], [stored(*each) for each in tensors.items()])
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=imports, functions=functions)
    onnx.save(model, folder / name, **options)
    return folder / name


def conv(weight, out="y", name="", op="Conv", **attributes):
    return helper.make_node(op, ["x", weight], [out], name=name, **attributes)


CASES = {
    "by its tensor's name": (lambda: ([conv("a.weight")], {"a.weight": KERNEL}), {"a.weight": KERNEL}),
    "by its layer's name": (
        lambda: ([conv("onnx::Conv_7", name="/features/0/Conv")], {"onnx::Conv_7": KERNEL}),
        {"features/0/Conv.weight": KERNEL},
    ),
    "by its output's name": (lambda: ([conv("w")], {"w": KERNEL}), {"y.weight": KERNEL}),
    "by its output's name, where its own is empty but for a slash": (
        lambda: ([conv("w", name="/")], {"w": KERNEL}),
        {"y.weight": KERNEL},
    ),
    "transposed convolution": (
        lambda: ([conv("a.weight", op="ConvTranspose")], {"a.weight": KERNEL}),
        {"a.weight": KERNEL},
    ),
    "stored in another order": (
        lambda: (
            [helper.make_node("Transpose", ["k"], ["w"], perm=[3, 2, 0, 1]), conv("w", name="c")],
            {"k": KERNEL.transpose(2, 3, 1, 0)},
        ),
        {"c.weight": KERNEL},
    ),
    "half precision, cast": (
        lambda: (
            [helper.make_node("Cast", ["h.weight"], ["w"], to=TensorProto.FLOAT), conv("w")],
            {"h.weight": KERNEL.astype(np.float16)},
        ),
        {"h.weight": KERNEL.astype(np.float16).astype(np.float32)},
    ),
    "rounded by a cast": (
        lambda: (
            [
                helper.make_node("Cast", ["a.weight"], ["h"], to=TensorProto.FLOAT16),
                helper.make_node("CastLike", ["h", "x"], ["w"]),
                conv("w"),
            ],
            {"a.weight": KERNEL},
        ),
        {"a.weight": KERNEL.astype(np.float16).astype(np.float32)},
    ),
    "double precision": (
        lambda: ([conv("d.weight")], {"d.weight": KERNEL.astype(np.float64)}),
        {"d.weight": KERNEL.astype(np.float64)},
    ),
    "as a constant": (
        lambda: ([helper.make_node("Constant", [], ["c"], value=stored("", KERNEL)), conv("c", name="n")], {}),
        {"n.weight": KERNEL},
    ),
    "by an identity": (
        lambda: ([helper.make_node("Identity", ["a.weight"], ["i"]), conv("i", name="n")], {"a.weight": KERNEL}),
        {"a.weight": KERNEL},
    ),
    "matrices": (
        lambda: (
            [
                helper.make_node("Gemm", ["x", "t.weight"], ["u"], transB=1),
                helper.make_node("Gemm", ["u", "p.weight"], ["v"]),
                helper.make_node("MatMul", ["v", "m"], ["y"], name="last"),
                helper.make_node("MatMul", ["u", "v"], ["z"]),
            ],
            {"t.weight": KERNEL[:, :, 0, 0], "p.weight": KERNEL[:, :, 1, 1], "m": KERNEL[:, :, 2, 2]},
        ),
        {"t.weight": KERNEL[:, :, 0, 0], "p.weight": KERNEL[:, :, 1, 1].T, "last.weight": KERNEL[:, :, 2, 2].T},
    ),
    "a scaled matrix": (
        lambda: ([helper.make_node("Gemm", ["x", "a.weight"], ["y"], alpha=0.5)], {"a.weight": KERNEL[:, :, 0, 0]}),
        {"a.weight": KERNEL[:, :, 0, 0].T / 2},
    ),
    "deformable convolution": (
        lambda: ([helper.make_node("DeformConv", ["x", "a.weight", "x"], ["y"])], {"a.weight": KERNEL}),
        {"a.weight": KERNEL},
    ),
    "one tensor in two layers of two names": (
        lambda: ([conv("w", "u", "a"), conv("w", "y", "b")], {"w": KERNEL}),
        {"a.weight": KERNEL},
    ),
    "a computed table that no layer's weight is": (
        lambda: (
            [
                conv("a.weight", "u"),
                helper.make_node("Mul", ["t", "t"], ["table"]),
                helper.make_node("MatMul", ["u", "table"], ["v"]),
                helper.make_node("MatMul", ["table", "table"], ["y"]),
            ],
            {"a.weight": KERNEL, "t": KERNEL[0]},
        ),
        {"a.weight": KERNEL},
    ),
    "one tensor in two layers": (
        lambda: ([conv("w", "u", "a"), conv("w", "y", "a")], {"w": KERNEL}),
        {"a.weight": KERNEL},
    ),
    "no kernels": (
        lambda: ([helper.make_node("Add", ["x", "table"], ["u"]), conv("w", name="c")], {"table": KERNEL, "w": KERNEL}),
        {"c.weight": KERNEL},
    ),
    "a shape as Keras has": (
        lambda: ([conv("a.weight")], {"a.weight": KERNEL.reshape(3, 3, 4, 6)}),
        {"a.weight": KERNEL.reshape(3, 3, 4, 6)},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_weights_are_those_that_the_graph_runs_with(case, tmp_path):
    make, expected = CASES[case]
    found = load_weight_file(saved(tmp_path, *make()))
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert torch.equal(found[name], torch.from_numpy(values.copy())), name


def test_layers_in_branches_and_functions_are_found(tmp_path):
    def branch(weight):
        tensors = [stored("w", weight)]
        return helper.make_graph([conv("w", "b", "same")], "b", [], [value("b")], tensors)

    node = helper.make_node("If", ["x"], ["u"], then_branch=branch(KERNEL), else_branch=branch(2 * KERNEL))
    function = helper.make_function(
        "own", "block", ["x", "w"], ["y"], [helper.make_node("Conv", ["x", "w"], ["y"])], [helper.make_opsetid("", 18)]
    )
    call = helper.make_node("block", ["u", "f.weight"], ["y"], domain="own")
    found = load_weight_file(saved(tmp_path, [node, call], {"f.weight": 3 * KERNEL}, functions=[function]))
    assert sorted(found) == ["f.weight", "same.weight", "same_2.weight"]
    scales = sorted(float((weight / torch.from_numpy(KERNEL)).mean()) for weight in found.values())
    assert scales == pytest.approx([1, 2, 3])


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("constant", [True, False])
def test_sparse_tensors_are_read_dense(flat, constant, tmp_path):
    kernel = np.where(KERNEL > 1, KERNEL, 0)
    at = np.flatnonzero(kernel) if flat else np.argwhere(kernel)
    sparse = helper.make_sparse_tensor(stored("a.weight", kernel[kernel != 0]), stored("at", at), kernel.shape)
    nodes = [helper.make_node("Constant", [], ["a.weight"], sparse_value=sparse)] if constant else []
    graph = helper.make_graph([*nodes, conv("a.weight")], "g", [value("x")], [value("y")])
    if not constant:
        graph.sparse_initializer.append(sparse)
    onnx.save(helper.make_model(graph), tmp_path / "model.onnx")
    assert torch.equal(load_weight_file(tmp_path / "model.onnx")["a.weight"], torch.from_numpy(kernel))


def test_kernels_that_inputs_make_are_left_out_with_a_line(tmp_path):
    """Of trackers, which compare two images, and of generators, whose style scales the kernel."""
    nodes = [
        conv("a.weight", "template"),
        helper.make_node("Mul", ["w", "template"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["turned"]),
        conv("turned", "u", "/styled"),
        helper.make_node("Identity", ["template"], ["kernel"]),
        conv("kernel", "y", "/compared"),
    ]
    with pytest.warns(WeightFileWarning, match=r"2 convolutions get their kernel from the .*inputs \(styled for one\)"):
        found = load_weight_file(saved(tmp_path, nodes, {"a.weight": KERNEL, "w": KERNEL}))
    assert list(found) == ["a.weight"]


def test_data_beside_the_file_are_read_and_stay_in_its_folder(tmp_path):
    (tmp_path / "model").mkdir()
    options = {"save_as_external_data": True, "location": "w.data", "size_threshold": 0}
    file = saved(tmp_path / "model", [conv("a.weight")], {"a.weight": KERNEL}, **options)
    assert (tmp_path / "model" / "w.data").is_file()
    assert torch.equal(load_weight_file(file)["a.weight"], torch.from_numpy(KERNEL))
    (tmp_path / "model" / "w.data").rename(tmp_path / "w.data")
    with pytest.raises(FiltersubError, match=r"model.onnx cannot be read as weights.*files themselves") as refused:
        load_weight_file(file)
    assert "\n" not in str(refused.value)
    (tmp_path / "model" / "w.data").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(FiltersubError, match=r"model.onnx cannot be read as weights") as refused:
        load_weight_file(file)
    assert "\n" not in str(refused.value)


def test_data_beside_the_file_are_read_for_functions_too(tmp_path):
    inner = [helper.make_node("Constant", [], ["w"], value=stored("c", KERNEL)), conv("w", name="n")]
    function = helper.make_function("own", "block", ["x"], ["y"], inner, [helper.make_opsetid("", 18)])
    nodes = [helper.make_node("block", ["x"], ["u"], domain="own"), helper.make_node("Conv", ["u", "a.weight"], ["y"])]
    options = {"save_as_external_data": True, "location": "w.data", "size_threshold": 0}
    found = load_weight_file(saved(tmp_path, nodes, {"a.weight": 2 * KERNEL}, functions=[function], **options))
    assert sorted(float((weight / torch.from_numpy(KERNEL)).mean()) for weight in found.values()) == [1, 2]


QUANTISED = {"q": KERNEL[:, :, 0, 0].astype(np.int8), "s": np.float32(0.1)}


def dequantised(*nodes):
    return [helper.make_node("DequantizeLinear", ["q", "s"], ["w"]), *nodes]


REFUSED = {
    "computed": (
        [helper.make_node("Mul", ["s", "s"], ["w"]), conv("w", name="/c")],
        {"s": KERNEL},
        r"c, whose weight.*\(Mul\).*onnxslim",
    ),
    "a computed matrix": (
        [
            conv("a.weight", "u"),
            helper.make_node("Add", ["m", "m"], ["w"]),
            helper.make_node("MatMul", ["u", "w"], ["y"], name="fc"),
        ],
        {"a.weight": KERNEL, "m": KERNEL[:, :, 0, 0]},
        r"fc, whose weight.*\(Add\).*onnxslim",
    ),
    "quantised": (
        [helper.make_node("ConvInteger", ["x", "q"], ["y"], name="q")],
        {"q": KERNEL.astype(np.int8)},
        "quantised layer.*ConvInteger",
    ),
    "a quantised convolution's weight": (
        dequantised(conv("w", name="c")),
        {**QUANTISED, "q": KERNEL.astype(np.int8)},
        r"c, a quantised layer \(DequantizeLinear\); give the float",
    ),
    "a quantised matrix": (
        dequantised(
            helper.make_node("Transpose", ["w"], ["t"]), helper.make_node("Gemm", ["x", "t"], ["y"], name="fc")
        ),
        QUANTISED,
        r"fc, a quantised layer \(DequantizeLinear\); give the float",
    ),
    "fused": (
        [conv("a.weight", "u"), helper.make_node("FusedConv", ["u", "w"], ["y"], name="f", domain="com.microsoft")],
        {"a.weight": KERNEL, "w": KERNEL},
        r"f, a layer of com.microsoft \(FusedConv\), which is not read; give the float model as it was exported",
    ),
    "of four bits": (
        [helper.make_node("MatMulNBits", ["x", "q", "s"], ["y"], name="f", domain="com.microsoft")],
        QUANTISED,
        r"f, a layer of com.microsoft \(MatMulNBits\), which is not read",
    ),
    "nothing": ([helper.make_node("Relu", ["x"], ["y"])], {}, "holds no tensors by name"),
    "parameters as inputs": ([conv("a.weight")], {}, r"holds no tensors by name: no convolution.*export_params=True"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_read_is_refused_in_a_line(case, tmp_path):
    nodes, tensors, message = REFUSED[case]
    with pytest.raises(FiltersubError, match=message) as refused:
        load_weight_file(saved(tmp_path, nodes, tensors))
    assert "\n" not in str(refused.value)


def test_a_graph_is_no_weights_of_a_model(tmp_path):
    """It has batch norms folded, and no biases are read."""
    file = saved(tmp_path, [conv("conv1.weight")], {"conv1.weight": KERNEL})
    with pytest.raises(FiltersubError, match=r"model.onnx is an ONNX graph, whose kernels alone.*give a state dict"):
        load_model("timm:resnet18", weights=file)


def test_a_damaged_file_is_refused_in_a_line(tmp_path):
    file = saved(tmp_path, [conv("a.weight")], {"a.weight": KERNEL})
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(FiltersubError, match=r"truncated or damaged") as refused:
        load_weight_file(file)
    assert "\n" not in str(refused.value)


def in_another_order(model):
    """Bytes with the versions of operators first, as other writers than protobuf's own put them."""
    parts = [onnx.ModelProto(opset_import=model.opset_import), onnx.ModelProto(graph=model.graph)]
    return b"".join(part.SerializeToString() for part in (*parts, onnx.ModelProto(ir_version=8)))


def with_a_text_first(model):
    return onnx.ModelProto(ir_version=8, doc_string="a", graph=model.graph).SerializeToString()


@pytest.mark.parametrize("written", [in_another_order, with_a_text_first, onnx.ModelProto.SerializeToString])
@pytest.mark.parametrize("name", ["model.onnx", "model.json", "model.textproto", "model.pb", "model.mlmodel", "model"])
def test_a_file_is_known_by_its_content(written, name, tmp_path):
    model = onnx.load(saved(tmp_path, [conv("a.weight")], {"a.weight": KERNEL}))
    (tmp_path / name).write_bytes(written(model))
    assert torch.equal(load_weight_file(tmp_path / name)["a.weight"], torch.from_numpy(KERNEL))


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("saved_model.pb", b"\x08\x01\x12\x10\x0a\x0e\x0a\x00\x22\x05serve*\x032.9", "a graph of TensorFlow"),
        ("net.mlmodel", b"\x08\x04\x12\x04\x0a\x02\x0a\x00\xa2\x1f\x03abc", "a model of Core ML"),
        ("renamed.onnx", b"\x08\x04\x12\x04\x0a\x02\x0a\x00\xa2\x1f\x03abc", "of no format that is known"),
        ("net.ort", b"\x18\0\0\0ORTM" + bytes(64), "a model in onnxruntime's own format"),
        ("large.onnx", b"\x32" + b"\xff" * 8 + b"\x7f", "of no format that is known"),
        ("endless.onnx", b"\x08" + b"\xff" * 600, "of no format that is known"),
    ],
)
def test_messages_that_begin_alike_are_no_onnx(name, content, what, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FiltersubError, match=f"{name} is {what}"):
        load_weight_file(tmp_path / name)


def test_codes_of_an_exported_network_are_those_of_its_state_dict(tmp_path):
    """Batch norm folded: the kernels are those that the exported graph runs with."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6)).eval()
    layers[1].running_var.uniform_(0.5, 2)
    folded = torch.nn.utils.fuse_conv_bn_eval(*layers)
    file = saved(tmp_path, [conv("onnx::Conv_3", name="/0/Conv")], {"onnx::Conv_3": folded.weight.detach().numpy()})
    recipe = DecompositionConfig(atoms=3)
    found = decompose_model(load_weight_file(file), recipe)
    expected = decompose_model({"0/Conv.weight": folded.weight.detach()}, recipe)
    assert list(found.layers) == list(expected.layers)
    for layer in found.layers:
        assert torch.equal(found.layers[layer].atoms, expected.layers[layer].atoms)
