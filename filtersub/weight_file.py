"""Files of weights as people share them: their format, and the tensors by name; nothing in a file is run as code."""

import argparse
import os
import pathlib
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .bare_weights import in_torch_layout
from .errors import FiltersubError, WeightFileWarning
from .files import as_path
from .onnx_weights import onnx_weights
from .weight_format import ELSEWHERE, format_of

_FLOAT8 = {getattr(torch, name) for name in dir(torch) if name.startswith("float8_")}
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar", ".th", ".onnx")
#: where training scripts put weights, averages of them first, as timm takes them
_KEYS = (
    *("state_dict_ema", "model_ema", "ema_state_dict", "params_ema", "g_ema"),
    *("state_dict", "model_state_dict", "model_state", "model_weights", "model", "net", "network", "module"),
    *("params", "weights"),
)
_NO_WEIGHTS = re.compile(r"optim|sched|scaler|amp|rng|hyper|args|config|loop|callback|loss|metric", re.I)
_DEEPEST = 4  # levels of dictionaries


def is_weight_file(name: str) -> bool:
    """Whether a MODEL argument names a bare file of weights, readable or not, rather than an architecture."""
    lowered = name.lower()
    return lowered.endswith((*SUFFIXES, *ELSEWHERE)) or (os.sep in name and Path(name).is_file())


def load_weight_file(path: str | os.PathLike[str], *, layout: str = "auto") -> dict[str, Tensor]:
    """Tensors by name, as torch's layers hold them, of a .safetensors file, of what torch.save wrote, or of ONNX.

    A state dict inside a checkpoint of a training script is taken out (``state_dict``, ``model``, ``net``,
    ``params_ema``, ...; averages first); what data parallelism and torch.compile put before names is dropped. Weight
    and spectral norm and pruning masks become the weight that the layer runs with. Float8, quantised and sparse tensors
    become dense float32.

    Parameters
    ----------
    layout : of convolution kernels: "torch" (out, in, height, width), "keras" (height, width, in, out), "mlx" (out,
        height, width, in), or "auto": what metadata and names (``kernel``) say, else torch

    Warns WeightFileWarning where the file holds several sets of weights, or kernels were turned. Raises FiltersubError
    when the file is missing, truncated, of another format, holds objects that only running code could read, no tensors
    by name, or several sets of them, and with "auto" where shapes look like another layout.
    """
    file = as_path(path)
    tensors, stated = _read(file)
    return in_torch_layout(effective_weights(tensors, file), layout, stated, file)


def stored_tensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Tensors by name as a file holds them, for files that this package wrote; raises as load_weight_file does."""
    return _read(as_path(path))[0]


def _read(file: Path) -> tuple[dict[str, Tensor], str]:
    """(tensors as they are stored, the format that the metadata name)."""
    if file.is_dir():
        raise FiltersubError(f"{file} is a folder; name the file of weights in it")
    if not file.is_file():
        raise FiltersubError(f"no file of weights at {file}")
    found, metadata = _contents(file, format_of(file))
    tensors = _state_dict(file, found)
    if not tensors:
        keys = ", ".join(map(str, list(found)[:6])) if isinstance(found, Mapping) else type(found).__name__
        raise FiltersubError(f"{file} holds no tensors by name; it holds {keys or 'nothing'}")
    return tensors, metadata.get("format", "")


def _contents(file: Path, kind: str) -> tuple[Any, dict[str, str]]:
    """(what a file of a kind of format_of holds, the metadata of a safetensors file)."""
    try:
        if kind == "safetensors":
            from safetensors import safe_open

            with safe_open(file, framework="pt") as tensors:
                return {name: tensors.get_tensor(name) for name in tensors.keys()}, tensors.metadata() or {}  # noqa: SIM118
        if kind == "onnx":
            return onnx_weights(file), {"format": kind}
        with torch.serialization.safe_globals(_harmless()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on formats of old versions of torch
            with open(file, "rb") as opened:  # of a path torch believes the suffix
                return torch.load(opened, map_location="cpu", weights_only=True), {}
    except FiltersubError:
        raise
    except Exception as error:  # each reader raises classes of its own for damage
        unsafe = _objects(file, error)
        if unsafe:
            raise FiltersubError(
                f"{file} cannot be read as weights: it holds objects ({', '.join(unsafe[:3])}), which only running its "
                "code could read. Where you trust it, save its state dict, and give that file"
            ) from None
        raise FiltersubError(
            f"{file} cannot be read as weights (truncated or damaged): {_reason(error, kind)}"
        ) from None


def _reason(error: Exception, kind: str) -> str:
    """A reader's own words without torch's advice to switch its safety off."""
    said = str(error).partition("WeightsUnpickler error: ")[2] or str(error)
    lines = said.strip().splitlines()
    broken = "its pickle breaks off" if kind == "torch" else "its contents are not of that format"
    usable = bool(lines) and "weights_only" not in lines[0] and not lines[0].isdigit()
    return lines[0][:200] if usable else f"{broken} ({type(error).__name__})"


def _harmless() -> list[Any]:
    """What checkpoints hold beside tensors, and does nothing when it is read: settings, paths, numbers of numpy."""
    scalar, array = np._core.multiarray.scalar, np._core.multiarray._reconstruct
    kinds = ("float64", "float32", "float16", "int64", "int32", "uint8", "bool", "U1")
    found = [argparse.Namespace, pathlib.PosixPath, pathlib.PurePosixPath, np.dtype, np.ndarray, scalar, array]
    if torch.__version__ >= "2.6":  # names of numpy 1
        found += [(scalar, "numpy.core.multiarray.scalar"), (array, "numpy.core.multiarray._reconstruct")]
    return found + [type(np.dtype(kind)) for kind in kinds]


def _objects(file: Path, error: Exception) -> list[str]:
    """Classes and functions in a pickle that are neither tensors nor harmless."""
    try:
        with torch.serialization.safe_globals(_harmless()):
            found = torch.serialization.get_unsafe_globals_in_checkpoint(file)
    except Exception:  # a damaged file, or one older than zip archives
        found = []
    return list(found) or re.findall(r"GLOBAL ([\w.]+) was not", str(error))


def _state_dict(file: Path, found: Any, level: int = 0) -> dict[str, Tensor]:
    """The tensors of the state dict in what a file holds; empty where there is none."""
    if not isinstance(found, Mapping) or level > _DEEPEST:
        return {}
    own = {str(key): value for key, value in found.items() if isinstance(value, Tensor)}
    inner = {str(key): value for key, value in found.items() if isinstance(value, Mapping)}
    inner = {key: value for key, value in inner.items() if not _NO_WEIGHTS.search(key)}
    nested = {key: tensors for key, value in inner.items() if (tensors := _state_dict(file, value, level + 1))}
    known = [key for key in _KEYS if key in nested]
    if known:
        if len(known) > 1:
            warnings.warn(f"{file} holds {' and '.join(known)}; {known[0]} is read", WeightFileWarning, stacklevel=2)
        return nested[known[0]]
    if not nested or any(tensor.ndim >= 2 for tensor in own.values()):  # a count of steps may be a tensor too
        return own
    if len(nested) > 1:
        raise FiltersubError(f"{file} holds several sets of tensors ({', '.join(nested)}); save the one you mean alone")
    return next(iter(nested.values()))


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
    if set(found) == {"g", "v"}:  # g v / ||v||, the norm over the sides that g has not (Salimans and Kingma, 2016)
        length, direction = found["g"], found["v"]
        over = [dim for dim in range(direction.ndim) if length.ndim == 0 or length.shape[dim] == 1]
        return direction * (length / direction.norm(2, dim=over, keepdim=True))
    if set(found) == {"orig", "mask"}:
        return found["orig"] * found["mask"].to(found["orig"].dtype)
    if set(found) == {"orig", "u", "v"}:
        # W / (u' W v), outputs down the rows (Miyato et al., 2018): the second side of a transposed convolution
        weight, left = found["orig"], found["u"]
        rows = weight if left.numel() == weight.shape[0] else weight.transpose(0, 1)
        return weight / (left @ (rows.reshape(rows.shape[0], -1) @ found["v"]))
    raise KeyError("another parametrisation")
