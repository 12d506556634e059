"""Kernels in an ONNX file, by the package onnx: weights of convolutions and of linear layers in torch's order.

ONNX stores kernels of convolutions as torch does, (out, in / groups, *k), of transposed ones too, (in, out / groups,
*k). Matrices are turned to (out, in). A batch norm that was folded is part of the weight, as the network runs.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import FiltersubError

_CONVOLUTIONS = ("Conv", "ConvTranspose")
_MATRICES = ("Gemm", "MatMul")
_QUANTISED = ("QLinearConv", "ConvInteger", "QLinearMatMul", "MatMulInteger")
_SEEN_THROUGH = ("Identity", "Cast", "Transpose")  # between a stored tensor and the layer


def onnx_weights(file: Path) -> dict[str, Tensor]:
    """Weights by the names of the stored tensors, or of their layers where a tensor is not called ``weight``; float32,
    float64 where they are.

    Data beside the file, branches of ``If``, bodies of ``Loop`` and functions are read too; tensors that no such layer
    uses are not. Raises FiltersubError without the package onnx, for quantised layers, and where the graph computes a
    weight of a convolution.
    """
    graph = onnx_graph(file)
    found: dict[str, Tensor] = {}
    for node, stored, made in _nodes(graph, {}, {}):
        if node.op_type in _QUANTISED:
            raise FiltersubError(
                f"{file} has {_called(node)}, a quantised layer ({node.op_type}); give the float model"
            )
        if node.op_type not in (*_CONVOLUTIONS, *_MATRICES) or node.domain not in ("", "ai.onnx"):
            continue
        name, weight = _weight(node.input[1], stored, made)
        if weight is None:
            if node.op_type in _CONVOLUTIONS and name in made:
                computed = made[name].op_type
                raise FiltersubError(
                    f"{file} has {_called(node)}, whose weight the graph computes ({computed}); fold it"
                )
            continue  # a product of two activations, or a kernel that is an input of the graph
        if node.op_type in _MATRICES and weight.ndim != 2:
            continue
        if node.op_type == "MatMul" or (node.op_type == "Gemm" and not _attribute(node, "transB")):
            weight = weight.T
        layer = name.removesuffix(".weight") if name.endswith(".weight") else _called(node)
        _add(found, layer, _as_float(weight))
    return found


def onnx_graph(file: Path) -> Any:
    """The graph of a file, functions written out, with the data that lie beside it: onnx keeps to the file's folder."""
    try:
        import onnx
        import onnx.inliner
    except ImportError:
        raise FiltersubError(f"{file} is an ONNX graph; pip install onnx to read it, or give a state dict") from None
    model = onnx.load(file)
    return (onnx.inliner.inline_local_functions(model) if model.functions else model).graph


def _add(found: dict[str, Tensor], layer: str, weight: Tensor) -> None:
    """A tensor that several layers use stands once; layers of one name, in two branches, are numbered."""
    names = (f"{layer}{number}.weight" for number in ("", *(f"_{n}" for n in range(2, len(found) + 3))))
    name = next(name for name in names if name not in found or torch.equal(found[name], weight))
    found[name] = weight


def _nodes(graph: Any, stored: dict[str, Any], made: dict[str, Any]) -> Iterator[tuple[Any, dict, dict]]:
    """Each node with the tensors that are stored where it stands, and the nodes that make the others, by name."""
    stored = stored | {each.name: each for each in graph.initializer}
    made = made | {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type == "Constant" and (value := _attribute(node, "value")) is not None:
            stored[node.output[0]] = value
    for node in graph.node:
        yield node, stored, made
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    yield from _nodes(inner, stored, made)


def _weight(name: str, stored: dict[str, Any], made: dict[str, Any]) -> tuple[str, np.ndarray | None]:
    """(name of the stored tensor that a layer gets, its numbers as the layer gets them); None where none is stored."""
    from onnx import numpy_helper

    if name in stored:
        return name, numpy_helper.to_array(stored[name])
    node = made.get(name)
    if node is None or node.op_type not in _SEEN_THROUGH:
        return name, None
    inner, weight = _weight(node.input[0], stored, made)
    if weight is not None and node.op_type == "Transpose":
        weight = weight.transpose(_attribute(node, "perm") or None)
    return inner if weight is not None else name, weight


def _attribute(node: Any, name: str) -> Any:
    from onnx.helper import get_attribute_value

    return next((get_attribute_value(each) for each in node.attribute if each.name == name), None)


def _called(node: Any) -> str:
    return (node.name or node.output[0]).strip("/")


def _as_float(weight: np.ndarray) -> Tensor:
    kept = weight.dtype if weight.dtype in (np.float32, np.float64) else np.float32
    return torch.from_numpy(np.array(weight, dtype=kept, order="C"))
