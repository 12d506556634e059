"""Commands that read records, plan or list import nothing that trains: torch and its kin take seconds."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image
from test_generation_tables import record as generation_record

from filtersub.records import Record

ROOT = Path(__file__).resolve().parents[1]
TRAINING = ("torch", "torchvision", "timm", "peft", "transformers", "accelerate", "diffusers", "numba", "sklearn")
TABLES = ("numpy", "pandas", "scipy", "matplotlib", "nbformat", "IPython", "vl_convert", "pydantic")
NOTEBOOK = str(ROOT / "notebooks" / "02_tuning.ipynb")


def sharing():
    rows = [{"m": 3, "sharing": kind, "seed": 0} for kind in ("own", "shared")]
    totals = [{**row, "dictionaries": 1, "atom_numbers": 27, "relative_error": 0.5} for row in rows]
    accuracy = [{"sharing": row["sharing"], "seed": 0, "test_accuracy": 0.5} for row in rows]
    return {"totals": pd.DataFrame(totals), "accuracy": pd.DataFrame(accuracy)}


def span():
    row = {"setting": "pca", "block": "none", "solver": "pca", "per_channel": 0, "m": 3, "seed": 0, "expected": 0.1}
    totals = {**row, "free": 27, "trained": 27, "share": 0.2, "covered": 0.5, "share_of_all": 0.1}
    layers = [{**row, "name": name, "share": share, "blocks": "none"} for name, share in (("one", 0.2), ("two", 0.3))]
    return {"totals": pd.DataFrame([totals]), "layers": pd.DataFrame(layers)}


def allotment():
    row = {"budget": 100, "seed": 0, "score": 0.5, "trainable": 90, "test_accuracy": 0.5}
    runs = [{**row, "kind": kind, "setting": f"m=3 {kind}"} for kind in ("by layer", "for all layers")]
    row = {"budget": 100, "m": 3, "k_c": None, "m_1": None, "trainable": 45, "share": 0.1, "possible": 0.4}
    layers = [{**row, "name": name} for name in ("one", "two")]
    return {"runs": pd.DataFrame(runs), "layers": pd.DataFrame(layers)}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Records of each kind below ``out``, and an ablation of one run of a notebook."""
    folder = tmp_path_factory.mktemp("imports")
    shutil.copytree(ROOT / "reports" / "sample" / "runs", folder / "out" / "sample")
    for make in (sharing, span, allotment):
        kind = make.__name__
        record = Record(kind, f"a study of {kind}", {"atoms": 3}, 0, {}, {}, {}, {"date": "2026-01-31T12:00:00+00:00"})
        record.write(folder / "out" / kind, **make())
    generation_record(data="shapes").write(folder / "out" / "generation")
    Image.new("RGB", (16, 16)).save(folder / "out" / "generation" / "samples.png")
    cells = [new_code_cell("rate = 0.5\nout_dir = '.'", metadata={"tags": ["parameters"]}), new_code_cell("rate")]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), folder / "own.ipynb")
    counted = [{"method": "bitfit"}, {"solver": "omp", "nonzeros": 2}, {"overrides": {"conv_dw": {"atoms": 4}}}]
    kinds = {"name": "t", "title": "T", "question": "Q?", "stages": [{"notebook": NOTEBOOK, "runs": counted}]}
    (folder / "kinds.yaml").write_text(json.dumps(kinds))
    stage = {"notebook": "own.ipynb", "runs": [{"rate": 0.1}]}
    (folder / "own.yaml").write_text(json.dumps({"name": "t", "title": "T", "question": "Q?", "stages": [stage]}))
    return folder


@pytest.mark.parametrize(
    ("words", "unwanted"),
    [
        *((words, TRAINING + TABLES) for words in ("--help", "-h", "--version", "tune --help", "decompose -h")),
        *((words, TRAINING + TABLES) for words in ("data list", "data list --json", f"check-notebook {NOTEBOOK}")),
        ("decompose efficientnet_lite0 --solver pca", ("timm", "torchvision", "torch._dynamo", "peft", "matplotlib")),
        ("report out", (*TRAINING, "scipy.stats", "nbformat", "dask")),
        ("report out --out both", (*TRAINING, "scipy.stats", "nbformat", "dask")),
        ("ablate quickstart --out q --dry-run", (*TRAINING, "scipy", "matplotlib", "nbformat", "distributed")),
        ("ablate kinds.yaml --out k --dry-run", (*TRAINING, "scipy", "matplotlib", "nbformat", "distributed")),
        ("ablate own.yaml --out own --dry-run", (*TRAINING, "scipy", "matplotlib", "nbformat", "distributed")),
        ("ablate own.yaml --out own", (*TRAINING, "scipy.stats", "papermill")),
    ],
    ids=lambda value: value.split(str(ROOT))[0] if isinstance(value, str) else "",
)
def test_a_command_imports_nothing_that_it_does_not_need(place, words, unwanted):
    code = (
        "import sys\n"
        "from filtersub.cli import app\n"
        f"app({words.split()!r}, standalone_mode=False)\n"
        f"print([name for name in {unwanted!r} if name in sys.modules])"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(place / "cache")}  # nothing of an earlier dry run
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=place, env=environment)
    assert said.stdout.endswith("[]\n"), said.stdout + said.stderr
    if words == "report out":
        page = (place / "out" / "index.html").read_text()
        for title in (
            "One dictionary for many layers",
            "What atoms could have learnt",
            "A budget allotted",
            "generated images",
        ):
            assert title in page
        assert "is left out" not in page


WRONG = (
    *("tune efficientnet_lite0 --method loro --out o", "tune efficientnet_lite0 --epochs 0 --out o"),
    *("tune --recipe vtab --out o", "tune efficientnet_lite0 --method lora --atoms 3 --out o"),
    *("decompose efficientnet_lite0 --solver laso", "decompose efficientnet_lite0 --max-error 2"),
    *("count efficientnet_lite0 --method loro", "count efficientnet_lite0 --block 0", "count vgg11 --classes 0"),
    *("suggest efficientnet_lite0 --budget 9k --solver laso", "suggest vgg11 --budget 9k --images 0"),
    *("generate-tune sd --data d --method loro --out o", "generate sd --prompts p --out o --steps 0"),
    "distance a b --batch-size 0",
)


def test_a_wrong_setting_is_told_before_training_libraries_are_imported(tmp_path):
    """They take seconds, on a busy machine half a minute."""
    code = (
        "import sys\n"
        "from filtersub.cli import app\n"
        "from filtersub.errors import FiltersubError\n"
        f"for words in {WRONG!r}:\n"
        "    try:\n"
        "        app(words.split(), standalone_mode=False)\n"
        "        print(words, 'ran')\n"
        "    except FiltersubError:\n"
        f"        print(words, [name for name in {TRAINING!r} if name in sys.modules])\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert said.stdout.splitlines() == [f"{words} []" for words in WRONG], said.stdout + said.stderr
    assert not any(tmp_path.iterdir())


def test_collecting_records_imports_nothing_that_trains(place):
    code = (
        "import sys\n"
        "from filtersub.collect import collect, settings_table, tuning_table\n"
        "assert len(settings_table(tuning_table(collect('out').records), 't')) > 1\n"
        f"print([name for name in {(*TRAINING, 'matplotlib', 'scipy.stats')!r} if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=place)
    assert said.stdout == "[]\n", said.stdout + said.stderr


GRAMMAR = """
import sys
from filtersub.ablation.notebook_file import import_nbformat

import_nbformat().v4.new_notebook()
from jsonschema import Draft7Validator
print("lark" in sys.modules, "rfc3987_syntax" in sys.modules)
print(*(Draft7Validator.FORMAT_CHECKER.conforms(address, "iri") for address in ("http://a/\u00e4", "http://a b")))
import rfc3987_syntax
print(bool(rfc3987_syntax.__file__), rfc3987_syntax.is_valid_syntax("iri", "http://a"))
"""


def test_nbformat_comes_without_a_grammar_of_addresses_which_is_there_once_it_is_asked():
    pytest.importorskip("rfc3987_syntax", reason="of JupyterLab's needs")
    said = subprocess.run([sys.executable, "-c", GRAMMAR], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == ["False False", "True False", "True True"]


def test_the_explorer_imports_no_training_library():
    """Its first figure comes in about twice the time of importing torch."""
    code = (
        "import sys\n"
        "from filtersub import show_explorer\n"
        "from filtersub.explore import Explorer, explorer_of\n"
        "from torch import nn\n"
        "explorer = explorer_of(Explorer(nn.Sequential(nn.Conv2d(8, 8, 3))))\n"
        "show_explorer(explorer, atoms=3)\n"
        f"print([name for name in {TRAINING[1:-2]!r} if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert said.stdout.endswith("[]\n"), said.stdout + said.stderr
