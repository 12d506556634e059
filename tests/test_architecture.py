"""Data flows one way: a room imports only from rooms before it."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "filtersub"
ROOMS = (
    ("errors", "files", "fingerprint", "memory", "meta_copy", "markup", "processes", "report_statistics", "settings"),
    ("kernels",),
    ("sparse_coding",),
    ("dictionary",),
    ("decomposition",),
    ("recipe_file",),
    ("diagnostics",),
    ("models", "data", "photographs"),
    ("attribution",),
    ("parameters",),
    ("tuning",),
    ("training",),
    ("methods",),
    ("records",),
    ("decomposition_run",),
    ("tune_settings",),
    ("saved_weights", "step_cost", "training_log", "rate_choice"),
    ("recipes",),
    ("paper",),
    ("experiment",),
    ("ranking",),
    ("tuned",),
    ("metrics",),
    ("generation",),
    ("studies",),
    ("conditions", "notebook_contract", "spec_yaml"),
    ("ablation_spec",),
    ("notebook_html",),
    ("warm_kernel",),
    ("notebook_run",),
    ("warm_process", "warm_start"),
    ("run_times",),
    ("ablation_plan",),
    ("run_slot",),
    ("slots",),
    ("dry_run",),
    ("run_progress",),
    ("ablation_folder",),
    ("ablation",),
    ("notebook_check",),
    ("collect",),
    ("plots",),
    ("report_generation",),
    ("report_studies",),
    ("report_merge",),
    ("report_answer",),
    ("tables",),
    ("report_against",),
    ("report_grids",),
    ("report_table",),
    ("report_provenance",),
    ("report",),
    ("explore",),
    ("explore_widgets",),
    ("console", "cli_options"),
    (
        "cli_ablate",
        "cli_counting",
        "cli_data",
        "cli_decompose",
        "cli_generate",
        "cli_notebook",
        "cli_report",
        "cli_tune",
    ),
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


def test_files_are_one_idea_each():
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= MOST_LINES, path.name
