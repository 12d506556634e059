"""The notebook of counts, and the study behind it."""

import pandas as pd
import pytest
from conftest import external_references

from filtersub.ablation import run_ablation
from filtersub.ablation.spec import parse_spec
from filtersub.decomposition import DecompositionConfig
from filtersub.parameters import count_parameters
from filtersub.parameters.budget import landscape, lora_ranks
from filtersub.plots.costs import parameter_landscape
from filtersub.studies.parameters import landscape_sentence, parameter_study, readings_sentence


def test_the_landscape_is_the_count_of_each_setting():
    table = landscape("resnet18", [6], [None, 3], [None, 4])
    assert len(table) == 4
    for row in table.itertuples():
        recipe = DecompositionConfig(atoms=row.m, expansion=row.m_1 or None, block=row.k_c or None)
        assert row.trainable == count_parameters("resnet18", recipe=recipe).trainable


def test_lora_grows_with_its_rank():
    table = lora_ranks("resnet18", [1, 4, 16], ["lora"])
    assert table["trainable"].tolist() == [r * table["trainable"][0] for r in (1, 4, 16)]


def test_the_study_writes_its_tables(tmp_path):
    record = parameter_study(
        tmp_path, models=["resnet18"], atoms=[6, 9], expansions=[0, 3], blocks=[0, 4], ranks=[1, 4], presets=["vtab"]
    )
    tables = {name: pd.read_csv(tmp_path / file) for name, file in record.tables.items()}
    assert {name: len(table) for name, table in tables.items()} == {"settings": 8, "lora": 4, "readings": 1}
    assert f"{tables['settings']['trainable'].max():,}" in landscape_sentence(tables["settings"], tables["lora"])
    assert readings_sentence(tables["readings"]).startswith("1 of 1 printed figures are met")
    figure = parameter_landscape(tables["settings"], tables["lora"])
    (panel,) = figure.axes
    drawn = {float(y) for line in panel.lines for y in line.get_ydata()}
    assert set(tables["settings"]["trainable"]) <= drawn
    assert panel.get_yscale() == "log"


@pytest.mark.notebook
@pytest.mark.usefixtures("shared_warm_process")
def test_the_notebook_runs(tmp_path):
    tiny = {"models": ["resnet18"], "atoms": [6], "expansions": [0, 3], "presets": ["vtab", "imagenet-full"]}
    stages = [{"notebook": "07_parameters", "parameters": {**tiny, "search": ["vtab", "cifar100-lora"]}}]
    spec = parse_spec({"name": "tiny", "title": "Tiny", "question": "Does it run?", "stages": stages})
    summary = run_ablation(spec, tmp_path)
    assert {path.parent.name: path.read_text() for path in tmp_path.rglob("error.txt")} == {}
    assert summary.exit_code == 0
    (page,) = tmp_path.rglob("notebook.html")
    text = page.read_text()
    assert external_references(text) == []
    assert "1 of 2 printed figures are met" in text
    assert "88.9" in text
    assert "no reading of the family meets: cifar100-lora" in text
