"""Kernels in an ONNX file, by the package onnx: weights of convolutions and of linear layers in torch's order.

ONNX stores kernels of convolutions as torch does, (out, in / groups, *k), of transposed ones too, (in, out / groups,
*k). Matrices are turned to (out, in). A batch norm that was folded is part of the weight, as the network runs.
"""

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import FiltersubError, WeightFileWarning, reason

_CONVOLUTIONS = ("Conv", "ConvTranspose", "DeformConv")
_MATRICES = ("Gemm", "MatMul")
_QUANTISED = ("QLinearConv", "ConvInteger", "QLinearMatMul", "MatMulInteger")
_SEEN_THROUGH = ("Identity", "Cast", "CastLike", "Transpose")  # between a stored tensor and the layer
_OF_OTHERS = re.compile("Conv|Gemm|MatMul|Attention|MoE")  # layers of other domains that have a weight
_STANDARD = ("", "ai.onnx")


@dataclass(frozen=True)
class _Known:
    """What is known where a node stands: tensors that are stored, nodes that make the others, by name, and the names
    of all tensors that no input of the network changes."""

    stored: dict[str, Any] = field(default_factory=dict)
    made: dict[str, Any] = field(default_factory=dict)
    fixed: frozenset[str] = frozenset()


def onnx_weights(file: Path) -> dict[str, Tensor]:
    """Weights by the names of the stored tensors, or of their layers where a tensor is not called ``weight``; float32,
    float64 where they are.

    Data beside the file, branches of ``If``, bodies of ``Loop`` and functions are read too; tensors that no such layer
    uses are not. A tensor that several layers use stands once.

    Warns WeightFileWarning where the network's inputs make kernels. Raises FiltersubError without the package onnx, for
    quantised layers, for those of other domains (onnxruntime's fused ones), where the graph computes a weight from
    stored tensors, and where no layer has one.
    """
    graph = onnx_graph(file)
    found: dict[str, Tensor] = {}
    used: dict[int, tuple[Any, list[Tensor]]] = {}
    left_out: list[str] = []
    for node, known in _nodes(graph, _Known()):
        _check_is_read(file, node, known)
        if node.op_type not in (*_CONVOLUTIONS, *_MATRICES) or node.domain not in _STANDARD:
            continue
        name, weight = _weight(node.input[1] if len(node.input) > 1 else "", known)
        if weight is None:
            _check_not_computed(file, node, name, known)
            if node.op_type in _CONVOLUTIONS and name not in known.fixed:
                left_out.append(_called(node))
            continue  # for matrices, a product of two activations
        if node.op_type in _MATRICES and weight.ndim != 2:
            continue
        if node.op_type == "MatMul" or (node.op_type == "Gemm" and not _attribute(node, "transB")):
            weight = weight.T
        weight = _as_float(weight)
        if node.op_type == "Gemm" and (factor := _attribute(node, "alpha")) is not None:
            weight = weight * factor
        held = known.stored[name]
        _, before = used.setdefault(id(held), (held, []))
        if not any(torch.equal(weight, each) for each in before):
            before.append(weight)
            _add(found, name.removesuffix(".weight") if name.endswith(".weight") else _called(node), weight)
    if not found:
        raise FiltersubError(
            f"{file} holds no tensors by name: no convolution or linear layer of its graph has a stored weight "
            "(torch.onnx.export stores them with export_params=True)"
        )
    if left_out:
        what = f"{len(left_out)} convolutions get their kernel from the network's inputs ({left_out[0]} for one)"
        warnings.warn(f"{file}: {what}; they are left out", WeightFileWarning, stacklevel=2)
    return found


def onnx_graph(file: Path) -> Any:
    """The graph of a file, functions written out, with the data that lie beside it: onnx keeps to the file's folder."""
    try:
        import onnx
        import onnx.inliner
        from onnx.external_data_helper import load_external_data_for_model
    except ImportError:
        raise FiltersubError(f"{file} is an ONNX graph; pip install onnx to read it, or give a state dict") from None
    model = onnx.load(file, format="protobuf", load_external_data=False)  # of a path onnx believes the suffix
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)  # before the data: more than 2 GB could not be inlined
    try:
        load_external_data_for_model(model, str(file.parent))
    except Exception as error:
        raise FiltersubError(
            f"{file} cannot be read as weights: its data lie in other files, of which one is missing, cut short or a "
            f"link ({reason(error)}); put the files themselves beside it"
        ) from None
    return model.graph


def _check_is_read(file: Path, node: Any, known: _Known) -> None:
    """Refuses layers that hold a kernel in a form which is not read."""
    if node.op_type in _QUANTISED:
        raise FiltersubError(f"{file} has {_called(node)}, a quantised layer ({node.op_type}); give the float model")
    held = [known.stored[name] for name in node.input[1:4] if name in known.stored]
    if node.domain not in _STANDARD and _OF_OTHERS.search(node.op_type) and any(len(each.dims) > 1 for each in held):
        raise FiltersubError(
            f"{file} has {_called(node)}, a layer of {node.domain} ({node.op_type}), which is not read; give the float "
            "model as it was exported, before optimisation"
        )


def _check_not_computed(file: Path, node: Any, name: str, known: _Known) -> None:
    """Refuses a layer whose weight is computed from stored tensors, of matrices from a stored matrix: others may be
    tables of positions. ``name`` is the tensor where the way back from the layer to a stored one ends."""
    if name not in known.fixed or node.input[0] in known.fixed:
        return
    if node.op_type in _MATRICES and not any(len(each.dims) == 2 for each in _sources(name, known)):
        return
    computed = known.made[name].op_type
    if computed in ("DequantizeLinear", "QuantizeLinear"):
        raise FiltersubError(f"{file} has {_called(node)}, a quantised layer ({computed}); give the float model")
    raise FiltersubError(
        f"{file} has {_called(node)}, whose weight the graph computes ({computed}); fold that: pip install onnxslim, "
        "then onnxslim FILE FOLDED.onnx"
    )


def _sources(name: str, known: _Known) -> list[Any]:
    """The stored tensors that a tensor is computed from."""
    names, found = [name], {}
    for each in names:  # grows while it is read
        if each in known.stored:
            found[each] = known.stored[each]
        elif each in known.made:
            names += [before for before in known.made[each].input if before not in names]
    return list(found.values())


def _add(found: dict[str, Tensor], layer: str, weight: Tensor) -> None:
    """Layers of one name, in two branches, are numbered, but for those of equal weights."""
    names = (f"{layer}{number}.weight" for number in ("", *(f"_{n}" for n in range(2, len(found) + 3))))
    name = next(name for name in names if name not in found or torch.equal(found[name], weight))
    found[name] = weight


def _nodes(graph: Any, around: _Known) -> Iterator[tuple[Any, _Known]]:
    """Each node with what is known where it stands."""
    stored = around.stored | {each.name: each for each in graph.initializer}
    stored |= {each.values.name: _dense(each) for each in graph.sparse_initializer}
    made = around.made | {name: node for node in graph.node for name in node.output}
    fixed = {*around.fixed, *stored}
    for node in graph.node:
        if node.op_type == "Constant" and (value := _attribute(node, "value")) is not None:
            stored[node.output[0]] = value
        elif node.op_type == "Constant" and (value := _attribute(node, "sparse_value")) is not None:
            stored[node.output[0]] = _dense(value)
        if all(name in fixed for name in node.input if name) and not any(_inner(node)):
            fixed.update(node.output)
    known = _Known(stored, made, frozenset(fixed))
    for node in graph.node:
        yield node, known
        for graph_within in _inner(node):
            yield from _nodes(graph_within, known)


def _inner(node: Any) -> Iterator[Any]:
    """Branches and bodies of a node."""
    return (inner for each in node.attribute for inner in (each.g, *each.graphs) if inner.node)


def _dense(sparse: Any) -> Any:
    """A sparse tensor as an ordinary one; its indices are flat, or a row for each number."""
    from onnx import numpy_helper

    values, at = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    dense = np.zeros(tuple(sparse.dims), values.dtype)
    dense[np.unravel_index(at, dense.shape) if at.ndim == 1 else tuple(at.T)] = values
    return numpy_helper.from_array(dense)


def _weight(name: str, known: _Known) -> tuple[str, np.ndarray | None]:
    """(name of the stored tensor that a layer gets, its numbers as the layer gets them); None where none is stored,
    with the name of the tensor where the way back ends."""
    from onnx import helper, numpy_helper

    if name in known.stored:
        return name, numpy_helper.to_array(known.stored[name])
    node = known.made.get(name)
    if node is None or node.op_type not in _SEEN_THROUGH:
        return name, None
    inner, weight = _weight(node.input[0], known)
    if weight is not None and node.op_type == "Transpose":
        weight = weight.transpose(_attribute(node, "perm") or None)
    if weight is not None and node.op_type == "Cast":
        weight = weight.astype(helper.tensor_dtype_to_np_dtype(_attribute(node, "to")))
    return inner, weight


def _attribute(node: Any, name: str) -> Any:
    from onnx.helper import get_attribute_value

    return next((get_attribute_value(each) for each in node.attribute if each.name == name), None)


def _called(node: Any) -> str:
    return node.name.strip("/") or node.output[0].strip("/")


def _as_float(weight: np.ndarray) -> Tensor:
    kept = weight.dtype if weight.dtype in (np.float32, np.float64) else np.float32
    return torch.from_numpy(np.array(weight, dtype=kept, order="C"))
