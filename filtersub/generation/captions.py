"""Images with prompts: a folder of one folder a class, or a file of prompts in the form of the hub's image folders."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

from ..errors import FiltersubError, reason
from ..files import as_path
from ..image_reading import image_paths, is_hidden
from ..metrics.images import ImageSet, image_files, image_folder
from ..schema import check
from ..setting_fields import DiffusionFields

PROMPTS_FILE = "metadata.jsonl"
TEMPLATE = DiffusionFields.template


def _file_name(text: str) -> str:
    if not text or "\0" in text:
        raise ValueError(f"must be the name of a file, got {text!r}")
    return text


class CaptionSchema(BaseModel):
    """A line of the file of prompts; the hub's image folders have more fields, which are let be."""

    model_config = ConfigDict(strict=True, extra="allow")
    file_name: Annotated[str, AfterValidator(_file_name)]
    text: str


@dataclass(frozen=True)
class CaptionedImages:
    """Image files with a prompt each, in a fixed order."""

    root: Path
    files: tuple[Path, ...]
    prompts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.files)

    @property
    def distinct(self) -> list[str]:
        """Every prompt once, in the order of their first images."""
        return list(dict.fromkeys(self.prompts))

    def spread(self, count: int) -> list[str]:
        """``count`` prompts in the proportions of the images: those of images spread evenly over the set."""
        return [self.prompts[place * len(self) // count] for place in range(count)]


def captioned_images(folder: str | os.PathLike[str], *, template: str = TEMPLATE) -> CaptionedImages:
    """The images below a folder with their prompts.

    With ``metadata.jsonl`` in it, each line an object with ``file_name`` and ``text``, those; else one folder a class,
    whose name, underscores as spaces, is put into ``template``.

    Raises FiltersubError on a missing folder, lines that do not parse (with their numbers), files that are missing or
    lie outside the folder, and a template that check_template refuses.
    """
    root = as_path(folder)
    if not root.is_dir():
        raise FiltersubError(f"no folder of images at {root}")
    if (root / PROMPTS_FILE).is_file():
        pairs = _listed(root)
    else:
        pairs = _by_class(root, template)
    if not pairs:
        raise FiltersubError(f"{root} holds no images with prompts: neither {PROMPTS_FILE} nor folders of classes")
    files, prompts = zip(*pairs, strict=True)
    return CaptionedImages(root, files, prompts)


def real_images(folder: str | os.PathLike[str], *, resize: int | None = None) -> ImageSet:
    """The images that others are compared with: those that ``metadata.jsonl`` lists, else all below the folder.

    Raises FiltersubError as captioned_images and metrics.image_folder do.
    """
    if not (as_path(folder) / PROMPTS_FILE).is_file():
        return image_folder(folder, resize=resize)
    return image_files(captioned_images(folder).files, str(folder), resize=resize)


def read_prompts(path: str | os.PathLike[str]) -> list[str]:
    """A text file of one prompt a line; empty lines are left out.

    Raises FiltersubError when the file is missing, is no UTF-8 text or holds no prompt.
    """
    try:
        prompts = [line.strip() for line in _lines(as_path(path)) if line.strip()]
    except OSError as error:
        raise FiltersubError(f"cannot read the prompts {path}: {error.strerror or error}") from None
    if not prompts:
        raise FiltersubError(f"{path} holds no prompt")
    return prompts


def check_template(template: str) -> str:
    """The template; FiltersubError unless it is a text with one ``{}`` and no other brace. Nothing is evaluated."""
    plain = isinstance(template, str) and template.count("{}") == template.count("{") == template.count("}") == 1
    if not plain:
        raise FiltersubError(
            f"the template of prompts needs one {{}} for the class and no other braces, got {template!r}"
        )
    return template


def _by_class(root: Path, template: str) -> list[tuple[Path, str]]:
    check_template(template)
    found = []
    for folder in sorted(part for part in root.iterdir() if part.is_dir() and not is_hidden(part.name)):
        prompt = template.replace("{}", folder.name.replace("_", " "))
        found += [(file, prompt) for file in image_paths(folder)]
    return found


def _lines(path: Path) -> list[str]:
    """Lines of a text; a prompt may hold what only ``splitlines`` takes for an end of line, U+2028 for one."""
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise FiltersubError(f"the prompts {path} are not UTF-8 text (byte {error.start})") from None


def _listed(root: Path) -> list[tuple[Path, str]]:
    listing, found = root / PROMPTS_FILE, []
    for number, line in enumerate(_lines(listing), start=1):
        if not line.strip():
            continue
        where = f"{listing}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise FiltersubError(
                f'{where}: expected {{"file_name": "...", "text": "..."}}, got {line[:60]!r}'
            ) from None
        row = check(CaptionSchema, row, where)
        file = root / row.file_name
        try:
            inside, there = file.resolve().is_relative_to(root.resolve()), file.is_file()
        except (OSError, UnicodeError) as error:  # too long for the disk, links in a circle, half a character
            raise FiltersubError(f"{where}: file_name is no path: {reason(error)}") from None
        if not inside:
            raise FiltersubError(f"{where}: {row.file_name!r} lies outside the folder")
        if not there:
            raise FiltersubError(f"{where}: there is no file {file}")
        found.append((file, row.text))
    return found
