"""Which format a file of weights has, by its content: a name may say something else."""

import codecs
import os
import zipfile
from pathlib import Path
from typing import BinaryIO

from .errors import FiltersubError, reason

_SAVE = "save its state dict with safetensors, or torch.save(model.state_dict(), 'weights.pth'), and give that file"
_FETCH = "fetch the file of weights itself and give that"
_UNPACK = "unpack it and give the file of weights in it"
ELSEWHERE = {  # suffix -> what such a file is; none of them is read here
    ".h5": "a file of Keras (HDF5)",
    ".hdf5": "a file of Keras (HDF5)",
    ".keras": "a file of Keras",
    ".npz": "an archive of numpy",
    ".npy": "an array of numpy",
    ".msgpack": "a file of Flax (msgpack)",
    ".pb": "a graph of TensorFlow",
    ".tflite": "a graph of TensorFlow Lite",
    ".ort": "a model in onnxruntime's own format (ORT)",
    ".gguf": "a file of llama.cpp (GGUF)",
    ".ggml": "a file of llama.cpp (GGML)",
    ".pt2": "a program of torch.export",
    ".mlmodel": "a model of Core ML",
    ".pdparams": "a file of Paddle",
    ".zip": "an archive",
    ".gz": "a compressed file",
}
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf\x27\x1c", b"Rar!")
_BINARY = {  # first bytes -> (what it is, what to do)
    b"\x89HDF": ("a file of Keras (HDF5)", _SAVE),
    b"\x93NUMPY": ("an array of numpy", _SAVE),
    b"GGUF": ("a file of llama.cpp (GGUF)", _SAVE),
    **dict.fromkeys(_COMPRESSED, ("a compressed file", _UNPACK)),
    **dict.fromkeys((b"\x89PNG", b"\xff\xd8\xff", b"GIF8"), ("an image", _FETCH)),
    b"%PDF": ("a PDF document", _FETCH),
}
_WRITTEN = {  # beginnings of texts, in small letters
    "version https://git-lfs": ("a pointer of Git LFS, not the file itself", "fetch that by git lfs pull"),
    "# xet version": ("a pointer of Git Xet, not the file itself", "fetch that by git xet pull"),
    **dict.fromkeys(("<!doctype", "<html", "<!--"), ("a web page", _FETCH)),
    "<?xml": ("a text in XML, as servers write for an error", _FETCH),
    **dict.fromkeys(("{", "["), ("a text in JSON, such as the index of weights in several files", _FETCH)),
}
_TORCH = b"l\xfc\x9cF\xf9 j\xa8P\x19"  # the number that torch.save wrote first before it wrote archives
_FIRST, _LARGEST = 512, 1 << 40  # bytes that tell, and more than any file has
_ONNX = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2}  # ModelProto: field -> wire type
_ONNX_NAMES, _ONNX_GRAPH = (2, 3, 4), 7


def format_of(file: Path) -> str:
    """ "safetensors", "torch" (what torch.save wrote) or "onnx".

    Raises FiltersubError, with what the file is and what to do, for everything else and for a file that cannot be read.
    """
    try:
        size = file.stat().st_size
        with open(file, "rb") as opened:
            first = opened.read(_FIRST)
    except OSError as error:
        raise FiltersubError(f"cannot read {file}: {reason(error)}") from None
    header_fits = 0 < int.from_bytes(first[:8], "little") <= size - 8
    if first[8:9] == b"{" and (file.suffix.lower() == ".safetensors" or header_fits):
        return "safetensors"
    if first.startswith(b"PK") and zipfile.is_zipfile(file):  # a tar with an archive at its end is no archive of torch
        found = _archive(file)
    elif first[:1] == b"\x80" and _TORCH in first[:64]:
        return "torch"
    elif not first.startswith(tuple(_BINARY)) and _text(first) is None and _is_onnx(file):
        return "onnx"
    else:
        found = _other(file, first)
    if found is None:
        return "torch"
    raise FiltersubError(f"{file} is {found[0]}, which is not read as weights; {found[1]}")


def _is_onnx(file: Path) -> bool:
    """Whether a protobuf message has the fields of ModelProto, in any order, up to its graph or to where it was cut
    off. SavedModel and Core ML begin as it does, but for messages in the place of names."""
    fields = 0
    with open(file, "rb") as opened:
        while (key := _varint(opened)) is not None:
            if _ONNX.get(key >> 3) != key & 7 or (value := _varint(opened)) is None:
                return False
            if key >> 3 == _ONNX_GRAPH:
                return True
            if key & 7:  # a text or a message, of as many bytes as the value says
                begun = opened.read(min(value, _FIRST))
                if key >> 3 in _ONNX_NAMES and _text(begun) is None:
                    return False
                opened.seek(min(value - len(begun), _LARGEST), os.SEEK_CUR)
            fields += 1
    return fields > 1


def _varint(opened: BinaryIO) -> int | None:
    """The next number, seven bits in each byte; None at the end of the file and where it has more than 64 bits."""
    number = 0
    for shift in range(0, 64, 7):
        byte = opened.read(1)
        if not byte:
            return None
        number |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return number
    return None


def _archive(file: Path) -> tuple[str, str] | None:
    """(what a zip archive is, what to do); None for that of torch.save."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = [name.partition("/")[2] for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile):
        return "a damaged archive", _FETCH
    if any(name.startswith("code/") or name == "constants.pkl" for name in names):
        return "a TorchScript archive", "torch.jit.load(FILE).state_dict() gives its state dict; save that"
    if "archive_format" in names:
        return "a program of torch.export", _SAVE
    if "data.pkl" in names:
        return None
    known = ELSEWHERE.get(file.suffix.lower())
    return ("an archive", _UNPACK) if known in (None, "an archive") else (known, _SAVE)


def _other(file: Path, first: bytes) -> tuple[str, str]:
    """(what a file that is neither an archive nor of a format read here is, what to do)."""
    if not first:
        return "an empty file", _FETCH
    for mark, found in _BINARY.items():
        if first.startswith(mark):
            return found
    if first.startswith(b"PK\x03\x04"):
        return "the beginning of an archive whose end is missing (truncated)", "fetch or write it again, to its end"
    if first[257:262] == b"ustar":
        return "an archive (tar)", _UNPACK
    if first[:1] == b"\x80" and first[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return "a pickle that torch.save did not write", _SAVE
    written = _text(first)
    if written is not None:
        begun = written.lstrip("\ufeff \t\r\n").lower()
        return next((found for mark, found in _WRITTEN.items() if begun.startswith(mark)), ("a text", _FETCH))
    known = ELSEWHERE.get(file.suffix.lower())
    return (known, _SAVE) if known else ("of no format that is known here, or damaged at its beginning", _SAVE)


def _text(first: bytes) -> str | None:
    """The beginning of a text, None where the bytes are none."""
    coding = "utf-16" if first[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8"
    try:
        written = codecs.getincrementaldecoder(coding)().decode(first)
    except UnicodeDecodeError:
        return None
    return written if all(letter.isprintable() or letter in "\ufeff\t\r\n\f" for letter in written) else None
