"""Data flows one way: a room imports only from rooms before it."""

import ast
import builtins
import re
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "filtersub"
ROOMS = (
    (
        "bare_weights",
        "errors",
        "files",
        "fingerprint",
        "folded_norms",
        "former_names",
        "image_reading",
        "intervals",
        "lazy",
        "markup",
        "memory",
        "method",
        "percentages",
        "printable",
        "processes",
        "progress",
        "schema",
        "random_states",
        "setting_fields",
        "settings",
        "user_cache",
        "version",
        "yaml_file",
    ),
    ("computed_weights", "folder_lock"),
    ("kernel_layout",),
    ("kernels",),
    ("engine",),
    ("sparse_coding",),
    ("dictionary",),
    ("decomposition",),
    ("recipe_file",),
    ("diagnostics",),
    ("weight_file", "weight_format", "onnx_weights"),
    ("packaged_models",),
    ("models", "data", "photographs"),
    ("attribution",),
    ("parameters",),
    ("tuning",),
    ("compile_ahead",),
    ("training",),
    ("methods",),
    ("record_schema",),
    ("records",),
    ("experiment",),
    ("recipes",),
    ("paper",),
    ("ranking",),
    ("metrics",),
    ("generation",),
    ("studies",),
    ("ablation",),
    ("varying",),
    ("collect",),
    ("plots",),
    ("report",),
    ("tables",),
    ("explore",),
    ("explore_widgets",),
    ("cli",),
    ("__main__", "__init__"),
)
ORDER = {name: number for number, rooms in enumerate(ROOMS) for name in rooms}
MOST_LINES = 400


@cache
def nodes(path):
    """All of a file's syntax tree; a file is parsed once for all tests."""
    return tuple(ast.walk(ast.parse(path.read_text())))


def room_of(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_rooms(path):
    """Rooms of the package that a file imports, wherever in the file the import stands."""
    depth = len(path.relative_to(PACKAGE).parts) - 1
    for node in nodes(path):
        if isinstance(node, ast.ImportFrom) and node.level == depth + 1:
            yield from [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("filtersub"):
            yield from node.module.split(".")[1:2] or [alias.name for alias in node.names]


def test_imports_go_one_way():
    checked = 0
    for path in PACKAGE.rglob("*.py"):
        room = room_of(path)
        assert room in ORDER, f"{path.name}: say where this room stands in the flow of data"
        for other in imported_rooms(path):
            if other in ORDER and other != room:
                assert ORDER[other] <= ORDER[room], f"{path.relative_to(PACKAGE)} imports {other}, a later room"
                checked += 1
    assert checked > 40


def test_the_diagram_of_the_design_is_that_of_the_imports():
    uses = {path.parent.name: set() for path in PACKAGE.glob("*/__init__.py")}
    for path in PACKAGE.rglob("*.py"):
        if (room := room_of(path)) in uses:
            uses[room] |= {other for other in imported_rooms(path) if other in uses and other != room}
    below = {}  # all that a room uses, through others too
    for room in TopologicalSorter(uses).static_order():
        below[room] = uses[room].union(*(below[other] for other in uses[room]))
    needed = {
        (other, room)
        for room, others in uses.items()
        for other in others
        if not any(other in below[between] for between in others)
    }
    design = (PACKAGE.parent / "docs" / "design.md").read_text()
    (diagram,) = re.findall(r"```mermaid\nflowchart LR\n(.*?)```", design, re.S)
    assert sorted(tuple(line.split(" --> ")) for line in map(str.strip, diagram.splitlines())) == sorted(needed)


def imported_files(path, package=PACKAGE):
    """Files of the package that a file imports: at its top, in a function or for type checking."""
    for node in nodes(path):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").split(".")[0] == package.name):
            start = path.parents[node.level - 1] if node.level else package.parent
            place = start.joinpath(*(node.module or "").split("."))
            for alias in node.names:  # a name may be a module, a package, or what either defines
                places = (place / f"{alias.name}.py", place / alias.name / "__init__.py")
                yield next(
                    file for file in (*places, place.with_suffix(".py"), place / "__init__.py") if file.is_file()
                )


def test_files_do_not_import_in_circles():
    """Late imports and those for type checking count: what they hide is a circle all the same."""
    graph = {path: set(imported_files(path)) - {path} for path in PACKAGE.rglob("*.py")}
    assert sum(map(len, graph.values())) > 1000
    tuple(TopologicalSorter(graph).static_order())  # raises CycleError


@pytest.mark.parametrize(
    "late",
    [
        "def f():\n    from .one import x\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .one import x\n",
        "def f():\n    from . import one\n",
        "def f():\n    from package.room.one import x\n",
        "def f():\n    from package.room import one\n",
        "from ..room.one import x\n",
    ],
)
def test_a_circle_is_seen_however_it_is_written(tmp_path, late):
    room = tmp_path / "package" / "room"
    room.mkdir(parents=True)
    for name, source in {"../__init__": "", "__init__": "", "one": "from .two import f\n", "two": late}.items():
        (room / f"{name}.py").write_text(source)
    files = [room / "one.py", room / "two.py"]
    graph = {path: set(imported_files(path, tmp_path / "package")) for path in files}
    with pytest.raises(CycleError):
        tuple(TopologicalSorter(graph).static_order())


def test_no_room_imports_a_private_file_or_name_of_another():
    for path in PACKAGE.rglob("*.py"):
        for node in nodes(path):
            if not isinstance(node, ast.ImportFrom) or not node.level:
                continue
            parts = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            private = [part for part in parts if part.startswith("_") and not part.startswith("__")]
            other_room = node.level == len(path.relative_to(PACKAGE).parts)
            assert not (other_room and private), f"{path.relative_to(PACKAGE)} imports {private[0]} of another room"


@pytest.mark.parametrize(("room", "most"), [("sparse_coding", 12), ("tuning", 12)])
def test_rooms_stay_small(room, most):
    assert len(list((PACKAGE / room).glob("*.py"))) <= most


def test_files_are_one_idea_each():
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= MOST_LINES, path.name


def names_annotated_early(tree):
    """Names in annotations that are not there when Python reads the annotation: of types imported for checking alone,
    of the class itself, of what stands further down."""
    bound = {}  # by name at the top of the file, the line after which it is there
    for statement in tree.body:
        if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING":
            continue
        for node in ast.walk(statement):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [(alias.asname or alias.name).split(".")[0] for alias in node.names]
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names = [node.id]
            else:
                names = [node.name] if node is statement and hasattr(node, "name") else []
            for name in names:
                bound.setdefault(name, statement.end_lineno)

    functions = ast.FunctionDef | ast.AsyncFunctionDef

    def annotated(node, inner=False):
        for child in ast.iter_child_nodes(node):
            within = inner or (isinstance(node, functions) and not isinstance(child, ast.arguments))
            found = [child.returns] if isinstance(child, functions) else []
            if isinstance(child, ast.arg) or (isinstance(child, ast.AnnAssign) and not within):  # else it is not read
                found = [child.annotation]
            yield from ((n, within) for each in found if each for n in ast.walk(each) if isinstance(n, ast.Name))
            yield from annotated(child, within)

    return {
        name.id
        for name, inner in annotated(tree)
        if not hasattr(builtins, name.id) and not bound.get(name.id, 10**9) < (10**9 if inner else name.lineno)
    }


@pytest.mark.parametrize(
    ("source", "early"),
    [
        ("from typing import Any\n\ndef f(x: Any) -> int: ...", set()),
        ("if TYPE_CHECKING:\n    import pandas as pd\n\ndef f() -> pd.DataFrame: ...", {"pd"}),
        ("class A:\n    def f(self) -> list[A]: ...", {"A"}),
        ("class A:\n    a: A | None", {"A"}),
        ("def f(x: A): ...\n\nclass A: ...", {"A"}),
        ("class A: ...\n\ndef f(x: A): ...", set()),
        ("def f():\n    x: A = 3\n    def g(y: A): ...\n\nclass A: ...", set()),
        ("def f():\n    from a import A\n    def g(y: B): ...", {"B"}),
    ],
)
def test_names_that_an_annotation_needs_before_they_are_there(source, early):
    assert names_annotated_early(ast.parse(source)) == early


def test_annotations_are_put_off_only_where_they_name_what_is_not_there_yet():
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        put_off = any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body)
        early = names_annotated_early(tree)
        needless = "drop `from __future__ import annotations`, which no annotation needs"
        assert put_off == bool(early), f"{path.relative_to(PACKAGE)}: {early or needless}"
