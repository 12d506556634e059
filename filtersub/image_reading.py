"""The one place where image files are listed and opened, whatever they are for: 8-bit RGB, upright, by stated rules.

Training, checking, distances, latents, figures and photographs all read through here, so that one file is the same
picture everywhere.
"""

import contextlib
import hashlib
import io
import os
from pathlib import Path, PurePath

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import FiltersubError, reason
from .files import as_path

#: Files with these suffixes (in any case) are images: those of torchvision's ImageFolder.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
#: Changes whenever a file may be read as other pixels than before; what is cached of images is named by it.
READING_RULES = 2
BACKGROUND = (255, 255, 255)  # behind transparent pixels
MOST_PIXELS = 178_956_970  # of one image: 0.5 GiB as RGB, Pillow's own bound
_TOO_LARGE = "more than the {:,} pixels that are read; make it smaller"
_SYSTEM_FOLDERS = {"__MACOSX", "@eaDir", "__pycache__", "$RECYCLE.BIN", "System Volume Information", "lost+found"}
_TWELVE_OF_SIXTEEN = 16  # 4095 of 65535, of 255
_WHITE_IS_ZERO, _PHOTOMETRIC, _BITS = 0, 262, 258  # tags of TIFF


class UnreadableImage(FiltersubError):
    """An image that cannot be read, or not without guessing; the message is the reason alone, without a name."""


def is_hidden(path: str | os.PathLike[str]) -> bool:
    """Whether a relative path leads through what desktops, editors and notebooks leave behind.

    Any part that begins with a dot (``.ipynb_checkpoints``, ``._photo.jpg``), and the folders of archive and file
    servers (``__MACOSX``, ``@eaDir``).

    >>> is_hidden("cats/.ipynb_checkpoints/1.png"), is_hidden("cats/1.png")
    (True, False)
    """
    return any((part.startswith(".") and part != "..") or part in _SYSTEM_FOLDERS for part in PurePath(path).parts)


def is_image_path(path: str | os.PathLike[str]) -> bool:
    """Whether a relative path is that of an image by its suffix, and not hidden."""
    return PurePath(path).suffix.lower() in IMAGE_SUFFIXES and not is_hidden(path)


def image_paths(folder: str | os.PathLike[str]) -> list[Path]:
    """All image files below a folder in the order of their names, without hidden ones."""
    root = as_path(folder)
    return sorted(path for path in root.rglob("*") if is_image_path(path.relative_to(root)) and path.is_file())


def read_image(file: str | os.PathLike[str]) -> Image.Image:
    """The image of a file, as decoded_image gives it. Raises FiltersubError naming the file."""
    file = as_path(file)
    try:
        return decoded_image(file)
    except UnreadableImage as error:
        raise FiltersubError(f"{file} cannot be read as an image: {error}") from None


def decoded_image(source: str | os.PathLike[str] | bytes) -> Image.Image:
    """An image as 8-bit RGB, turned upright; its stored mode is ``info["stored_mode"]``.

    Parameters
    ----------
    source : path, or the bytes of an encoded file

    The rules: 16-bit grey is scaled by its full range (65535, or 4095 where a TIFF holds 12 bits) to 255; 16-bit
    colour keeps its high byte. Transparent pixels lie over white. Palettes, grey, 1-bit, CMYK, YCbCr and LAB are
    converted by Pillow. The EXIF orientation is applied. Of several frames or pages the first is taken.

    Raises UnreadableImage for damaged and truncated files, for pixels without a stated range (floating-point, 32-bit
    and signed integers), and for more than MOST_PIXELS pixels.
    """
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            if image.width * image.height > MOST_PIXELS:
                raise UnreadableImage(f"{image.width:,} x {image.height:,} pixels are {_TOO_LARGE.format(MOST_PIXELS)}")
            image.load()
            with contextlib.suppress(Exception):  # damaged EXIF data names no orientation, as none does
                ImageOps.exif_transpose(image, in_place=True)
            found = _eight_bits(image)
            found.info["stored_mode"] = image.mode
            return found
    except UnreadableImage:
        raise
    except Image.DecompressionBombError:
        raise UnreadableImage(f"it has {_TOO_LARGE.format(MOST_PIXELS)}") from None
    except UnidentifiedImageError:
        if not (source if isinstance(source, bytes) else os.path.getsize(source)):
            raise UnreadableImage("the file is empty") from None
        raise UnreadableImage("it is no image, or of a format that Pillow does not read") from None
    except FileNotFoundError:
        raise UnreadableImage("there is no such file") from None
    except Exception as error:  # every format's reader raises classes of its own for damage
        raise UnreadableImage(reason(error, 160)) from None


def is_nearly_black(image: Image.Image) -> bool:
    """Whether a 16-bit file became next to black: its brightest value is at most 4095 of 65535.

    So it is where a microscope or camera of 12 bits wrote its values into 16 bits as they were.
    """
    stored = str(image.info.get("stored_mode", ""))
    return stored.startswith("I") and max(high for _, high in image.getextrema()) <= _TWELVE_OF_SIXTEEN


def pixel_digest(image: Image.Image) -> bytes:
    """16 bytes that tell the content of images apart: size and pixels, whatever the format of their files."""
    return hashlib.blake2b(image.tobytes() + repr(image.size).encode(), digest_size=16).digest()


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_grey(image)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    if image.mode == "La":  # premultiplied; Pillow converts it to LA alone
        image = image.convert("LA")
    seen = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", seen.size, (*BACKGROUND, 255)), seen).convert("RGB")


def _grey(image: Image.Image) -> np.ndarray:
    """Grey of more than 8 bits as uint8 (height, width)."""
    if image.mode == "F":
        raise UnreadableImage("its pixels are floating-point numbers of no stated range; save it with 8 or 16 bits")
    tags = getattr(image, "tag_v2", {})
    if image.mode == "I" and image.format not in ("PNG", "PPM"):  # these two store at most 16 bits, without a sign
        raise UnreadableImage("its pixels are 32-bit or signed integers of no stated range; save it with 8 or 16 bits")
    full = 2 ** tags[_BITS][0] - 1 if image.format == "TIFF" and _BITS in tags else 65535
    values = np.asarray(image).astype(np.int64)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:  # Pillow turns 8 bits round, and leaves 16 as they are
        values = full - values
    if isinstance(image.info.get("transparency"), int):
        values = np.where(values == image.info["transparency"], full, values)  # over white
    return ((values * 255 + full // 2) // full).clip(0, 255).astype(np.uint8)
