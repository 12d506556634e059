"""A folder to begin an ablation of one's own with: a notebook that keeps the contract, its YAML, how to run them."""

import json
import os
import re
import tempfile
from importlib import resources
from pathlib import Path

from ..data.names import PATH_KINDS
from ..errors import FiltersubError
from ..files import as_path, make_folder

#: File of the template: its name in the new folder.
_FILES = {"notebook.ipynb": "{name}.ipynb", "ablation.yaml": "ablation.yaml", "README.md": "README.md"}


def new_project(folder: str | os.PathLike[str], *, model: str, data: str) -> dict[str, Path]:
    """Write the folder, whole or not at all; the files by the name of their template.

    A relative path of a data set that is there from the working directory is written as an absolute one, since the runs
    start in the new folder.

    Raises FiltersubError for a name that an ablation cannot have, a folder that is there already, and one that cannot
    be made.
    """
    folder = as_path(folder)
    name = folder.absolute().name
    if folder.exists():
        raise FiltersubError(f"{folder.absolute()} is there already; choose another name, or remove it first")
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise FiltersubError(f"the name {name!r} may hold letters, digits, '.', '_' and '-' only; choose another")
    words = {"PROJECT": name, "MODEL": json.dumps(model), "DATA": json.dumps(_found_from_anywhere(data))}
    # a notebook's file holds its cells as texts of JSON
    words_in_texts = {key: json.dumps(word, ensure_ascii=False)[1:-1] for key, word in words.items()}
    templates = resources.files("filtersub") / "templates" / "new"
    make_folder(folder.absolute().parent)
    with tempfile.TemporaryDirectory(dir=folder.absolute().parent, prefix=f".{name}-") as aside:
        for template, target in _FILES.items():
            text = (templates / template).read_text(encoding="utf-8")
            path = Path(aside) / "folder" / target.format(name=name)
            make_folder(path.parent)
            path.write_text(_filled(text, words_in_texts if path.suffix == ".ipynb" else words), "utf-8")
        (Path(aside) / "folder").rename(folder)
    return {template: folder / target.format(name=name) for template, target in _FILES.items()}


def _found_from_anywhere(data: str) -> str:
    """``folder:photos`` with the absolute path, where the working directory has it; other names as they are."""
    kind, _, rest = data.partition(":")
    path, mark, columns = rest.partition("?")
    given = Path(path).expanduser()
    if kind not in PATH_KINDS or not path or not given.exists():
        return data
    return f"{kind}:{given.absolute()}{mark}{columns}"


def _filled(text: str, words: dict[str, str]) -> str:
    return re.sub(r"\b(PROJECT|MODEL|DATA)\b", lambda found: words[found[0]], text)
