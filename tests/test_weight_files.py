"""Weights as people share them: read as the layer runs with them, or refused in one line that says what to do."""

import argparse
import bz2
import collections
import gzip
import lzma
import pathlib
import pickle
import sys
import tarfile
import warnings
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from filtersub.bare_weights import kernels_by_name
from filtersub.cli.decompose import weights_of
from filtersub.decomposition import DecompositionConfig, decompose_model
from filtersub.errors import FiltersubError, WeightFileWarning
from filtersub.models import load_model
from filtersub.weight_file import is_weight_file, load_weight_file, stored_tensors

KERNEL = torch.randn(16, 8, 3, 3, generator=torch.Generator().manual_seed(0))
STATE = {"conv.weight": KERNEL, "conv.bias": torch.zeros(16)}


def saved(tmp_path, content, name="checkpoint.pth", **options):
    torch.save(content, tmp_path / name, **options)
    return tmp_path / name


OPTIMIZER = {"state": {0: {"exp_avg": torch.zeros(3, 3)}}, "param_groups": [{"lr": 1e-3}]}
NESTED = {
    "plain": STATE,
    "state_dict": {"state_dict": STATE, "epoch": 3, "optimizer": OPTIMIZER},
    "model_state_dict": {"epoch": 3, "model_state_dict": STATE, "optimizer_state_dict": OPTIMIZER, "loss": 0.5},
    "net": {"net": STATE, "acc": 93.1, "epoch": 3},
    "model": {"model": STATE, "args": argparse.Namespace(lr=1e-3, out=pathlib.PurePosixPath("x"))},
    "two levels": {"checkpoint": {"model": STATE}, "iteration": torch.tensor(3)},
    "params": {"params": STATE},
    "a name of one's own": {"my_network": STATE, "step": 7},
    "numbers of numpy": {"model": STATE, "best": np.float64(0.5), "history": np.zeros(3), "seed": np.int64(3)},
    "an ordered dictionary": {"state_dict": collections.OrderedDict(STATE)},
    "parameters": {"state_dict": {name: nn.Parameter(tensor) for name, tensor in STATE.items()}},
    "data parallel": {f"module.{name}": tensor for name, tensor in STATE.items()},
    "compiled": {f"_orig_mod.{name}": tensor for name, tensor in STATE.items()},
    "compiled, then parallel": {"state_dict": {f"module._orig_mod.{name}": tensor for name, tensor in STATE.items()}},
    "parallel, then compiled": {f"_orig_mod.module.{name}": tensor for name, tensor in STATE.items()},
}


@pytest.mark.parametrize("kind", NESTED)
@pytest.mark.parametrize("old", [False, True])
def test_the_state_dict_of_a_checkpoint_is_found(tmp_path, kind, old):
    path = saved(tmp_path, NESTED[kind], "checkpoint.pth.tar", _use_new_zipfile_serialization=not old)
    found = load_weight_file(path)
    assert list(found) == list(STATE)
    assert all(torch.equal(found[name], STATE[name]) for name in STATE)


def test_averages_are_taken_first_and_said(tmp_path):
    other = {name: tensor + 1 for name, tensor in STATE.items()}
    for ema, raw in (("state_dict_ema", "state_dict"), ("params_ema", "params"), ("model_ema", "model")):
        path = saved(tmp_path, {raw: other, ema: STATE})
        with pytest.warns(WeightFileWarning, match=f"holds {ema} and {raw}; {ema} is read"):
            assert torch.equal(load_weight_file(path)["conv.weight"], KERNEL)


class Pickled(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3)


REFUSED = {
    "two networks": ({"generator": STATE, "discriminator": STATE}, r"several sets of tensors \(generator, discrim"),
    "no tensors": ({"epoch": 3, "args": {"lr": 1}}, "holds no tensors by name; it holds epoch, args"),
    "a tensor": (KERNEL, "holds no tensors by name; it holds Tensor"),
    "a list": ([KERNEL], "holds no tensors by name; it holds list"),
    "nothing": ({}, "holds no tensors by name; it holds nothing"),
    "a whole module": (Pickled(), r"it holds objects \(.*Pickled.*only running its code could read.*state dict"),
    "a module inside": ({"model": Pickled(), "epoch": 1}, r"it holds objects"),
    "two prefixes": ({"module.a.weight": KERNEL, "a.weight": KERNEL}, "that would both be a.weight"),
    "meta tensors": ({"a.weight": torch.empty(3, 3, device="meta")}, "without its numbers"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_holds_no_weights_is_refused_in_one_plain_line(tmp_path, kind):
    content, message = REFUSED[kind]
    with pytest.raises(FiltersubError, match=message) as refused:
        load_weight_file(saved(tmp_path, content))
    assert "\n" not in str(refused.value)
    assert "\x1b" not in str(refused.value)


def torch_script(path):
    torch.jit.script(nn.Conv2d(2, 2, 3)).save(path)


def archive(*names):
    def write(path):
        with zipfile.ZipFile(path, "w") as file:
            for name in names:
                file.writestr(name, "x")

    return write


def tar_of_weights(path):
    with tarfile.open(path, "w") as file:
        file.add(saved(path.parent, STATE), "model.pth")


def compressed(by):
    return lambda path: path.write_bytes(by(saved(path.parent, STATE).read_bytes()))


def truncated(path):
    path.write_bytes(saved(path.parent, STATE).read_bytes()[:-100])


ONNX = b"\x08\x07\x12\x07pytorch\x1a\x052.1.0:\x80\x04" + bytes(600)
STATE_DICT, FETCH, UNPACK = "state dict", "fetch the file of weights itself", "unpack it"
FORMATS = {
    "model.onnx": (b"\x08\x07\x12\x07pytorch", "an ONNX graph", STATE_DICT),
    "onnx.pt": (ONNX, "an ONNX graph", STATE_DICT),
    "onnx.safetensors": (ONNX, "an ONNX graph", STATE_DICT),
    "graph alone.bin": (b"\x08\x0a\x3a\x80\x04" + bytes(600), "an ONNX graph", STATE_DICT),
    "model.h5": (b"\x89HDF\r\n\x1a\n", "Keras", STATE_DICT),
    "model.keras": (b"PK\x05\x06" + bytes(18), "Keras", STATE_DICT),
    "model.msgpack": (b"\x81\xa6params", "Flax", STATE_DICT),
    "model.npz": (lambda path: np.savez(path, a=np.ones(3)), "numpy", STATE_DICT),
    "model.npy": (lambda path: np.save(path, np.ones(3)), "numpy", STATE_DICT),
    "model.gguf": (b"GGUF\3\0\0\0", "GGUF", STATE_DICT),
    "model.tflite": (b"\x1c\0\0\0TFL3", "TensorFlow Lite", STATE_DICT),
    "model.pt": (torch_script, r"TorchScript archive.*torch\.jit\.load", STATE_DICT),
    "scripted.pth": (torch_script, "TorchScript archive", STATE_DICT),
    "scripted.safetensors": (torch_script, "TorchScript archive", STATE_DICT),
    "renamed.pth": (b"\x89HDF\r\n\x1a\n", "Keras", STATE_DICT),
    "pickled.pt": (pickle.dumps({"a.weight": np.ones((3, 3))}), "a pickle that torch.save did not write", STATE_DICT),
    "code.pt": (pickle.dumps(print, protocol=4), "a pickle that torch.save did not write", STATE_DICT),
    "noise.bin": (np.random.default_rng(0).bytes(4096), "of no format that is known here", STATE_DICT),
    "zeros.pth": (bytes(4096), "of no format that is known here", STATE_DICT),
    "photos.pt": (archive("a/readme.txt", "b.png"), "an archive", UNPACK),
    "in zip.safetensors": (archive("model.safetensors"), "an archive", UNPACK),
    "weights.tar": (tar_of_weights, r"an archive \(tar\)", UNPACK),
    "tar.pth": (tar_of_weights, r"an archive \(tar\)", UNPACK),
    "packed.pth": (b"\x1f\x8b\x08\0", "a compressed file", UNPACK),
    "gzip.safetensors": (compressed(gzip.compress), "a compressed file", UNPACK),
    "bzip2.bin": (compressed(bz2.compress), "a compressed file", UNPACK),
    "xz.pt": (compressed(lzma.compress), "a compressed file", UNPACK),
    "zstandard.pt": (b"\x28\xb5\x2f\xfd" + bytes(99), "a compressed file", UNPACK),
    "pointer.safetensors": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS", "git lfs pull"),
    "windows pointer.bin": (b"\xef\xbb\xbfversion https://git-lfs.github.com/spec/v1\r\n", "Git LFS", "git lfs pull"),
    "xet.pt": (b"# xet version 0\nfilesize = 3\n", "Git Xet", "git xet pull"),
    "page.pth": (b"<!DOCTYPE html><html>404</html>", "a web page", FETCH),
    "page.safetensors": (b"\n\n  <HTML><body>", "a web page", FETCH),
    "utf-16.bin": ("<html>Gru\u00df</html>".encode("utf-16"), "a web page", FETCH),
    "denied.pt": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "a text in XML", FETCH),
    "index.bin": (b'{"metadata": {}, "weight_map": {"a": "b"}}', "a text in JSON", FETCH),
    "not found.safetensors": (b'{"error":"Repository not found"}', "a text in JSON", FETCH),
    "entry.bin": (b"Entry not found", "a text", FETCH),
    "recipe.ckpt": ("model: resnet\nname: Gr\u00fc\u00dfe\n".encode() * 99, "a text", FETCH),
    "attack.pth": (b"cos\nsystem\n(S'exit'\ntR.", "a text", FETCH),
    "picture.pth": (b"\x89PNG\r\n\x1a\n" + bytes(50), "an image", FETCH),
    "paper.pt": (b"%PDF-1.4\n" + bytes(50), "a PDF document", FETCH),
    "empty.pt": (b"", "an empty file", FETCH),
    "empty.safetensors": (b"", "an empty file", FETCH),
    "empty.onnx": (b"", "an empty file", FETCH),
    "cut.pt": (truncated, "whose end is missing", "to its end"),
    "cut.safetensors": (truncated, "whose end is missing", "to its end"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_other_formats_are_called_what_they_are(tmp_path, name, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)  # with it ONNX is read: test_onnx_weights.py
    content, message, fix = FORMATS[name]
    content(tmp_path / name) if callable(content) else (tmp_path / name).write_bytes(content)
    assert is_weight_file(str(tmp_path / name))
    with pytest.raises(FiltersubError, match=rf"{name} is .*{message}.*{fix}") as refused:
        load_weight_file(tmp_path / name)
    assert "\n" not in str(refused.value)


RENAMED = (
    "x.onnx",
    "x.safetensors",
    "x.bin",
    "x.h5",
    "x.npz",
    "x.gz",
    "x.zip",
    "x.tar",
    "x.pt",
    "x.gguf",
    "x.JSON",
    "x",
)


@pytest.mark.parametrize("name", RENAMED)
@pytest.mark.parametrize("form", ["archive", "before archives", "safetensors"])
def test_weights_are_read_by_their_content_whatever_their_name(tmp_path, name, form):
    path = tmp_path / name
    if form == "safetensors":
        save_file(STATE, path)
    else:
        with open(path, "wb") as file:  # of a path torch might believe the suffix
            torch.save(STATE, file, _use_new_zipfile_serialization=form == "archive")
    found = load_weight_file(path)
    assert all(torch.equal(found[key], value) for key, value in STATE.items())


DAMAGED = {
    "safetensors": lambda whole: whole[:-20],
    "safetensors of more": lambda whole: whole + b"xx",
    "header": lambda whole: (2**60).to_bytes(8, "little") + whole[8:],
    "old": lambda whole: whole[:-50],
    "old, in its pickle": lambda whole: whole[:80],
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damage_is_said_without_advice_to_switch_safety_off(tmp_path, kind):
    path = tmp_path / "x.safetensors"
    if kind.startswith("old"):
        torch.save(STATE, path.with_suffix(".pt"), _use_new_zipfile_serialization=False)
        path = path.with_suffix(".pt")
    else:
        save_file(STATE, path)
    path.write_bytes(DAMAGED[kind](path.read_bytes()))
    with pytest.raises(FiltersubError, match=r"cannot be read as weights \(truncated or damaged\): .") as refused:
        load_weight_file(path)
    assert "weights_only" not in str(refused.value)
    assert "\n" not in str(refused.value)


def weight_normed():
    layer = weight_norm(nn.Conv2d(4, 6, 3))
    with torch.no_grad():
        layer.weight_g.mul_(2.5)
    return layer


def spectral(kind):
    layer = spectral_norm(kind(4, 6, 3), n_power_iterations=3)
    layer(torch.randn(2, 4, 8, 8)[..., 0] if kind is nn.Conv1d else torch.randn(2, 4, 8, 8))
    return layer.eval()


def pruned():
    layer = nn.Conv2d(4, 6, 3)
    prune.l1_unstructured(layer, "weight", 0.4)
    return layer


PARTS = {
    "weight norm": weight_normed,
    "weight norm of a linear layer": lambda: weight_norm(nn.Linear(5, 7)),
    "weight norm, one length": lambda: weight_norm(nn.Conv1d(4, 6, 3), dim=None),
    "weight norm, transposed": lambda: weight_norm(nn.ConvTranspose2d(4, 6, 3), dim=1),
    "weight norm as a parametrisation": lambda: parametrizations.weight_norm(nn.Conv3d(2, 3, 2)),
    "spectral norm": lambda: spectral(nn.Conv2d),
    "spectral norm, transposed": lambda: spectral(nn.ConvTranspose2d),
    "spectral norm as a parametrisation": lambda: parametrizations.spectral_norm(nn.Conv2d(4, 6, 3)).eval(),
    "pruning": pruned,
}


@pytest.mark.parametrize("kind", PARTS)
@pytest.mark.parametrize("inside", [True, False])
def test_weights_in_parts_are_the_weight_that_the_layer_runs_with(tmp_path, kind, inside):
    torch.manual_seed(0)
    layer = PARTS[kind]()
    with torch.no_grad():
        layer(
            torch.randn(
                1, *((5,) if isinstance(layer, nn.Linear) else (layer.in_channels, 8, 8, 8)[: layer.weight.ndim - 1])
            )
        )
        expected = layer.weight.clone()
    module = nn.Sequential(layer) if inside else layer
    found = load_weight_file(saved(tmp_path, module.state_dict()))
    prefix = "0." if inside else ""
    torch.testing.assert_close(found[f"{prefix}weight"], expected, rtol=1e-5, atol=1e-6)
    assert {name.removeprefix(prefix) for name in found} == {"weight", "bias"}


def test_parts_that_do_not_belong_together_are_refused(tmp_path):
    state = parametrizations.orthogonal(nn.Linear(4, 4)).state_dict()
    with pytest.raises(FiltersubError, match=r"stores weight in parts that do not give it.*remove_parametrizations"):
        load_weight_file(saved(tmp_path, state))
    with pytest.raises(FiltersubError, match=r"stores a\.weight in parts"):
        load_weight_file(saved(tmp_path, {"a.weight_orig": torch.ones(4, 4, 3), "a.weight_mask": torch.ones(5, 4, 3)}))
    kept = load_weight_file(saved(tmp_path, {"qkv_v": torch.ones(3, 3), "attn_mask": torch.ones(3, 3)}))
    assert list(kept) == ["qkv_v", "attn_mask"]


def test_files_of_our_own_keep_their_parts(tmp_path):
    layer = weight_norm(nn.Conv2d(4, 6, 3))
    path = saved(tmp_path, layer.state_dict())
    assert set(stored_tensors(path)) == {"bias", "weight_g", "weight_v"}


@pytest.mark.parametrize("kind", ["e4m3fn", "e5m2", "sparse", "csr", "quantised", "scaled", "half", "integer keys"])
def test_odd_types_become_dense_numbers(tmp_path, kind):
    small = KERNEL.round(decimals=1)
    if kind in ("e4m3fn", "e5m2"):
        stored = KERNEL.to(getattr(torch, f"float8_{kind}"))
        save_file({"a.weight": stored}, tmp_path / "w.safetensors")
        found, expected = load_weight_file(tmp_path / "w.safetensors"), stored.float()
    else:
        flat = small.flatten(1)
        content, expected = {
            "sparse": ({"a.weight": flat.to_sparse()}, flat),
            "csr": ({"a.weight": flat.to_sparse_csr()}, flat),
            "quantised": ({"a.weight": torch.quantize_per_tensor(flat, 0.1, 0, torch.qint8)}, flat),
            "scaled": ({"a.weight": flat.to(torch.float8_e4m3fn), "a.weight_scale": torch.tensor(3.0)}, None),
            "half": ({"a.weight": KERNEL.half()}, KERNEL.half()),
            "integer keys": ({0: KERNEL, 1: KERNEL}, KERNEL),
        }[kind]
        expected = flat.to(torch.float8_e4m3fn).float() * 3 if expected is None else expected
        found = load_weight_file(saved(tmp_path, content))
    name = "0" if kind == "integer keys" else "a.weight"
    torch.testing.assert_close(found[name], expected, rtol=0, atol=1e-6)
    assert list(found) == (["0", "1"] if kind == "integer keys" else ["a.weight"])
    assert decompose_model(found, DecompositionConfig(atoms=2, solver="pca", block=1)).relative_error < 1


def test_float8_with_many_scales_is_refused(tmp_path):
    state = {"a.weight": KERNEL.to(torch.float8_e4m3fn), "a.weight_scale": torch.ones(16, 1, 1, 1)}
    with pytest.raises(FiltersubError, match=r"a\.weight in float8 with a scale of shape \(16, 1, 1, 1\)"):
        load_weight_file(saved(tmp_path, state))


@pytest.mark.parametrize("size", [1e-42, 1e38, 1e20, 1e-20])
def test_weights_whose_squares_leave_the_range_are_refused(size):
    with pytest.raises(
        FiltersubError, match=r"layer 'a' has weights of at most .*whose squares leave the range of float32"
    ):
        decompose_model({"a.weight": KERNEL.clamp(-3, 3) * size}, DecompositionConfig(atoms=3))
    if size in (1e20, 1e-20):
        wide = decompose_model({"a.weight": KERNEL.double() * size}, DecompositionConfig(atoms=3, solver="pca"))
        plain = decompose_model({"a.weight": KERNEL.double()}, DecompositionConfig(atoms=3, solver="pca"))
        assert wide.relative_error == pytest.approx(plain.relative_error, rel=1e-6)


NAMES = {
    "a vision transformer": (
        {"cls_token": (1, 1, 64), "pos_embed": (1, 17, 64), "patch_embed.proj.weight": (64, 3, 4, 4)},
        ["patch_embed.proj.weight"],
    ),
    "positions in four dimensions": ({"pos_embed": (1, 64, 7, 7), "conv.weight": (8, 4, 3, 3)}, ["conv.weight"]),
    "tokens alone": ({"cls_token": (1, 1, 64), "reg_token": (1, 4, 64), "dist_token": (1, 1, 64)}, []),
    "a table of positions": ({"relative_position_bias_table": (169, 3), "a.weight": (3, 3)}, ["a.weight"]),
    "masks": ({"attn_mask": (4, 49, 49), "conv.weight": (8, 4, 3, 3)}, ["conv.weight"]),
    "recurrent weights": ({"rnn.weight_ih_l0": (8, 4), "rnn.weight_hh_l0_reverse": (8, 8)}, None),
    "attention": ({"attn.in_proj_weight": (12, 4), "attn.bias_k": (1, 1, 4)}, ["attn.in_proj_weight"]),
    "bare names": ({"conv": (8, 4, 3, 3), "odd": (4, 4)}, None),
    "empty sides": ({"a.weight": (0, 4, 3, 3), "b.weight": (4, 4, 3, 3)}, ["b.weight"]),
    "scales": ({"gamma": (1, 64, 1, 1), "conv.weight": (8, 4, 3, 3)}, ["conv.weight"]),
}


@pytest.mark.parametrize("kind", NAMES)
def test_tensors_that_are_no_kernels_take_no_part(kind):
    shapes, kept = NAMES[kind]
    tensors = {name: torch.randn(shape) for name, shape in shapes.items()}
    assert list(kernels_by_name(tensors)) == (list(shapes) if kept is None else kept)
    if kept:
        found = decompose_model(tensors, DecompositionConfig(atoms=2, solver="pca", block=1))
        assert list(found.layers) == [name.removesuffix(".weight") for name in kept]


def turned(kernel, layout):
    """(out, in, *k) as another library stores it, written out by the order of its sides."""
    spatial = range(2, kernel.ndim)
    return kernel.permute((*spatial, 1, 0) if layout == "keras" else (0, *spatial, 1)).contiguous()


LAYOUTS = {
    "Keras by name": ("keras", "conv.kernel", None, "auto"),
    "Flax by name": ("keras", "params/stem/kernel", None, "auto"),
    "TensorFlow by name": ("keras", "conv/kernel:0", None, "auto"),
    "Flax by metadata": ("keras", "conv.weight", "flax", "auto"),
    "MLX by metadata": ("mlx", "conv.weight", "mlx", "auto"),
    "Keras as asked": ("keras", "conv.weight", None, "keras"),
    "MLX as asked": ("mlx", "conv.weight", None, "mlx"),
}


@pytest.mark.parametrize("kind", LAYOUTS)
@pytest.mark.parametrize("shape", [(16, 8, 3, 3), (32, 16, 1, 1), (6, 4, 5), (4, 3, 2, 2, 2)])
def test_other_layouts_are_read_as_torchs(tmp_path, kind, shape):
    layout, name, stated, asked = LAYOUTS[kind]
    if len(shape) == 3 and "kernel" in name:
        shape = (6, 8, 5)
    kernel = torch.randn(shape)
    metadata = None if stated is None else {"format": stated}
    save_file({name: turned(kernel, layout)}, tmp_path / "w.safetensors", metadata=metadata)
    with pytest.warns(WeightFileWarning, match="1 kernels are read in the layout of"):
        (found,) = load_weight_file(tmp_path / "w.safetensors", layout=asked).values()
    assert torch.equal(found, kernel)


def test_depthwise_kernels_of_keras(tmp_path):
    """Output i * multiplier + j of a depthwise layer is input i by kernel [:, :, i, j]."""
    images, kernel = torch.randn(1, 3, 6, 6), torch.randn(2, 2, 3, 2)
    save_file({"depthwise_kernel": kernel}, tmp_path / "w.safetensors")
    with pytest.warns(WeightFileWarning):
        (weight,) = load_weight_file(tmp_path / "w.safetensors").values()
    found = nn.functional.conv2d(images, weight, groups=3)
    by_hand = [
        (images[0, i].unfold(0, 2, 1).unfold(1, 2, 1) * kernel[:, :, i, j]).sum((2, 3))
        for i in range(3)
        for j in (0, 1)
    ]
    torch.testing.assert_close(found[0], torch.stack(by_hand))


@pytest.mark.parametrize(
    ("shapes", "layout"),
    [
        ([(3, 3, 16, 32)], "keras"),
        ([(3, 3, 3, 8), (3, 3, 8, 8), (1, 1, 8, 64)], "keras"),
        ([(3, 3, 16, 16)], "keras"),
        ([(32, 3, 3, 16)], "mlx"),
        ([(8, 3, 3, 3), (16, 3, 3, 8), (32, 1, 1, 16)], "mlx"),
        ([(64, 3, 7, 7), (64, 64, 3, 3), (1000, 64, 1, 1)], None),
        ([(768, 3, 16, 16)], None),
        ([(192, 128, 1, 7), (192, 128, 7, 1), (32, 3, 3, 3)], None),
        ([(32, 1, 3, 3), (8, 8, 1, 3)], None),
        ([(16, 16, 5, 20)], None),
        ([(3, 3, 3, 3)], None),
    ],
)
def test_shapes_that_speak_for_another_layout_are_refused(tmp_path, shapes, layout):
    save_file({f"{i}.weight": torch.randn(shape) for i, shape in enumerate(shapes)}, tmp_path / "w.safetensors")
    if layout is None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = load_weight_file(tmp_path / "w.safetensors")
    else:
        with pytest.raises(FiltersubError, match=rf"looks like .*say --layout {layout}, or --layout torch"):
            load_weight_file(tmp_path / "w.safetensors")
        found = load_weight_file(tmp_path / "w.safetensors", layout="torch")
    assert [tuple(tensor.shape) for tensor in found.values()] == shapes


def test_a_blur_that_is_called_kernel_stays(tmp_path):
    save_file({"blur.kernel": torch.ones(64, 1, 3, 3)}, tmp_path / "w.safetensors")
    assert load_weight_file(tmp_path / "w.safetensors")["blur.kernel"].shape == (64, 1, 3, 3)
    with pytest.raises(FiltersubError, match="unknown layout of kernels 'tf'; known: auto, torch, keras, mlx"):
        load_weight_file(tmp_path / "w.safetensors", layout="tf")


def test_a_model_takes_weights_from_the_checkpoints_of_training_scripts(tmp_path):
    source = load_model("test_resnet", pretrained=False)
    state = source.state_dict()
    for kind, content in {
        "timm": {"state_dict": state, "arch": "test_resnet", "args": argparse.Namespace(lr=1.0), "metric": 1.5},
        "Lightning": {"state_dict": {f"model.{name}": tensor for name, tensor in state.items()}, "epoch": 1},
        "compiled": {"model_state_dict": {f"_orig_mod.{name}": tensor for name, tensor in state.items()}},
    }.items():
        loaded = load_model("test_resnet", weights=saved(tmp_path, content, f"{kind}.ckpt"))
        assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.state_dict().items()), kind
    with pytest.raises(FiltersubError, match="is a file of weights, without an architecture"):
        load_model(str(tmp_path / "timm.ckpt"))


def test_the_command_says_what_it_took(filtersub, tmp_path):
    content = {"model": {"stem.kernel": turned(KERNEL, "keras"), "cls_token": torch.ones(1, 1, 8)}}
    path = saved(tmp_path, {**content, "model_ema": content["model"]})
    done = filtersub("decompose", path, "--atoms", 3, "--json")
    assert done.returncode == 0, done.stderr
    assert "holds model_ema and model; model_ema is read" in done.stderr
    assert "1 kernels are read in the layout of Keras or Flax" in done.stderr
    assert "1 tensors are left out, no kernels by names and shapes: cls_token" in done.stderr
    assert '"shape": [16, 8, 3, 3]' in " ".join(done.stdout.split()).replace("[ ", "[").replace(" ]", "]")
    for weights, pretrained, option in ((path, True, "--weights"), (None, False, "--no-pretrained")):
        with pytest.raises(FiltersubError, match=f"is a file of weights itself; leave {option} away"):
            weights_of(str(path), weights, pretrained, "auto")
    with pytest.raises(FiltersubError, match="--layout is for a bare file of weights, and test_resnet is none"):
        weights_of("test_resnet", None, True, "keras")
