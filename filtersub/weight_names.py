"""Names and parts of weights in a state dict as those of the plain layer: prefixes, norms, masks, odd types."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from .errors import FiltersubError

_FLOAT8 = {getattr(torch, name) for name in dir(torch) if name.startswith("float8_")}


def effective_weights(tensors: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
    """Tensors by the names of plain layers, in dense types that arithmetic knows.

    ``module.`` (data parallelism) and ``_orig_mod.`` (torch.compile) are dropped. Together become one weight:
    ``weight_g`` and ``weight_v``, ``weight_orig`` and ``weight_mask``, ``weight_orig`` with ``weight_u``, and the same
    under ``parametrizations``. Raises FiltersubError where two names become one, or parts do not belong together.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        plain = re.sub(r"(^|(?<=\.))_orig_mod\.", "", name.removeprefix("module."))
        plain = plain.removeprefix("module.")
        if plain in found:
            raise FiltersubError(f"{file} has {name} and another tensor that would both be {plain}")
        found[plain] = tensor
    scales = {name: tensor for name, tensor in found.items() if tensor.dtype in _FLOAT8}
    found = {name: _dense(name, tensor, found, file) for name, tensor in found.items()}
    for name in scales:
        found.pop(_scale_of(name, found) or "", None)
    return _joined(found, file)


def _dense(name: str, tensor: Tensor, every: Mapping[str, Tensor], file: Path) -> Tensor:
    if tensor.is_meta:
        raise FiltersubError(f"{file} has {name} without its numbers (a tensor of the meta device)")
    tensor = tensor.detach()
    if tensor.is_quantized:
        return tensor.dequantize()
    if tensor.layout != torch.strided:
        return tensor.to_dense()
    if tensor.dtype not in _FLOAT8:
        return tensor
    scale = _scale_of(name, every)
    if scale is None:
        return tensor.float()
    if every[scale].numel() != 1:
        raise FiltersubError(
            f"{file} has {name} in float8 with a scale of shape {tuple(every[scale].shape)}; one scale for the "
            "tensor is read, so save the weights in bfloat16 or float32"
        )
    return tensor.float() * every[scale].float()


def _scale_of(name: str, every: Mapping[str, Tensor]) -> str | None:
    """The name of the scale beside a float8 tensor."""
    stem = name.removesuffix("weight")
    return next((key for key in (f"{name}_scale", f"{stem}scale_weight", f"{name}.scale") if key in every), None)


def _joined(tensors: dict[str, Tensor], file: Path) -> dict[str, Tensor]:
    """Each weight that is stored in parts as the one that the layer runs with, in the place of its first part."""
    found: dict[str, Tensor] = {}
    used: set[str] = set()
    for name in tensors:
        if name in used:
            continue
        base, parts = _parts(name, tensors)
        if base is None:
            found[name] = tensors[name]
            continue
        used |= set(parts.values())
        try:
            found[base] = _combined({part: tensors[key] for part, key in parts.items()})
        except (RuntimeError, ValueError, KeyError):
            shapes = ", ".join(f"{key} {tuple(tensors[key].shape)}" for key in parts.values())
            raise FiltersubError(
                f"{file} stores {base} in parts that do not give it ({shapes}); save the weights without norm, "
                "pruning or parametrisation (torch.nn.utils.parametrize.remove_parametrizations, prune.remove)"
            ) from None
    return found


def _parts(name: str, tensors: Mapping[str, Tensor]) -> tuple[str | None, dict[str, str]]:
    """(name of the whole, names of its parts by what they are) of a tensor that is a part."""
    inside = re.fullmatch(r"((?:.*\.)?)parametrizations\.(\w+)\.(original\d*|\d+\..*)", name)
    if inside:
        base = f"{inside[1]}parametrizations.{inside[2]}."
        return inside[1] + inside[2], {key.removeprefix(base): key for key in tensors if key.startswith(base)}
    ending = re.fullmatch(r"(.*)_(g|v|u|orig|mask)", name)
    if not ending:
        return None, {}
    keys = {part: f"{ending[1]}_{part}" for part in ("g", "v", "u", "orig", "mask")}
    parts = {part: key for part, key in keys.items() if key in tensors}
    whole = {"g", "v"} <= set(parts) or {"orig", "mask"} <= set(parts) or {"orig", "u", "v"} <= set(parts)
    return (ending[1], parts) if whole else (None, {})


def _combined(parts: Mapping[str, Tensor]) -> Tensor:
    today = {"original0": "g", "original1": "v", "original": "orig", "0._u": "u", "0._v": "v"}
    found = {today.get(name, name): part for name, part in parts.items()}
    if set(found) == {"g", "v"}:
        return _weight_norm(found["g"], found["v"])
    if set(found) == {"orig", "mask"}:
        return found["orig"] * found["mask"].to(found["orig"].dtype)
    if set(found) == {"orig", "u", "v"}:
        return _spectral_norm(found["orig"], found["u"], found["v"])
    raise KeyError("another parametrisation")


def _weight_norm(length: Tensor, direction: Tensor) -> Tensor:
    """g v / ||v||, the norm over the dimensions that g has not (Salimans and Kingma, 2016)."""
    over = [dim for dim in range(direction.ndim) if length.ndim == 0 or length.shape[dim] == 1]
    return direction * (length / direction.norm(2, dim=over, keepdim=True))


def _spectral_norm(weight: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """W / (u' W v), outputs down the rows (Miyato et al., 2018): the second side of a transposed convolution."""
    rows = weight if left.numel() == weight.shape[0] else weight.transpose(0, 1)
    return weight / (left @ (rows.reshape(rows.shape[0], -1) @ right))
