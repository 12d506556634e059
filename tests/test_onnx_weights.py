"""Weights of layers in ONNX files: those that the network runs with, or one line that refuses."""

import numpy as np
import pytest
import torch
from torch import nn

from filtersub.decomposition import DecompositionConfig, decompose_model
from filtersub.errors import FiltersubError
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
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
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


def test_data_beside_the_file_are_read_and_stay_in_its_folder(tmp_path):
    (tmp_path / "model").mkdir()
    options = {"save_as_external_data": True, "location": "w.data", "size_threshold": 0}
    file = saved(tmp_path / "model", [conv("a.weight")], {"a.weight": KERNEL}, **options)
    assert (tmp_path / "model" / "w.data").is_file()
    assert torch.equal(load_weight_file(file)["a.weight"], torch.from_numpy(KERNEL))
    (tmp_path / "model" / "w.data").rename(tmp_path / "w.data")
    with pytest.raises(FiltersubError, match=r"model.onnx cannot be read as weights"):
        load_weight_file(file)


REFUSED = {
    "computed": (
        [helper.make_node("Mul", ["s", "s"], ["w"]), conv("w", name="/c")],
        {"s": KERNEL},
        r"c, whose weight.*\(Mul\)",
    ),
    "quantised": (
        [helper.make_node("ConvInteger", ["x", "q"], ["y"], name="q")],
        {"q": KERNEL.astype(np.int8)},
        "quantised layer.*ConvInteger",
    ),
    "nothing": ([helper.make_node("Relu", ["x"], ["y"])], {}, "holds no tensors by name"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_read_is_refused_in_a_line(case, tmp_path):
    nodes, tensors, message = REFUSED[case]
    with pytest.raises(FiltersubError, match=message) as refused:
        load_weight_file(saved(tmp_path, nodes, tensors))
    assert "\n" not in str(refused.value)


def test_a_damaged_file_is_refused_in_a_line(tmp_path):
    file = saved(tmp_path, [conv("a.weight")], {"a.weight": KERNEL})
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(FiltersubError, match=r"truncated or damaged") as refused:
        load_weight_file(file)
    assert "\n" not in str(refused.value)


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
