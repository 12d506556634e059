"""Data flows one way: a room imports only from rooms before it."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "filtersub"
ROOMS = (
    (
        "bare_weights",
        "compile_notice",
        "errors",
        "files",
        "fingerprint",
        "image_reading",
        "intervals",
        "lazy",
        "markup",
        "memory",
        "meta_copy",
        "method",
        "processes",
        "processor",
        "progress",
        "schema",
        "random_states",
        "settings",
        "solver_names",
        "version",
        "yaml_file",
    ),
    ("computed_weights", "folder_lock"),
    ("kernels",),
    ("sparse_coding",),
    ("dictionary",),
    ("decomposition",),
    ("recipe_file",),
    ("diagnostics",),
    ("weight_file", "weight_layout", "weight_names"),
    ("models", "data", "photographs"),
    ("attribution",),
    ("parameters",),
    ("tuning",),
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


def room_of(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_rooms(path):
    """Rooms of the package that a file imports, wherever in the file the import stands."""
    depth = len(path.relative_to(PACKAGE).parts) - 1
    for node in ast.walk(ast.parse(path.read_text())):
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


def imported_files(path):
    """Files of the same room that a file imports when it is loaded."""
    room = path.parent
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            names = [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]
            yield from (room / f"{name}.py" for name in names if (room / f"{name}.py").exists())


def test_files_of_a_room_do_not_import_in_circles():
    graph = {path: set(imported_files(path)) for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"}
    assert sum(map(len, graph.values())) > 100
    tuple(TopologicalSorter(graph).static_order())  # raises CycleError


def test_files_are_one_idea_each():
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= MOST_LINES, path.name
