"""The paper's printed counts: each reading summed up anew from its architecture, by closed formula and by injection."""

import re
from pathlib import Path

import pytest
from peft import get_peft_model

from filtersub.errors import FiltersubError
from filtersub.kernels import select_layers
from filtersub.models import head_name
from filtersub.parameters import load_architecture
from filtersub.parameters.reading_search import GROUPS, POWERS_OF_TWO, matching_readings
from filtersub.parameters.readings import PRESETS, compute, preset, readings_table
from filtersub.tuning import FilterSubspaceConfig

WITHOUT_READING = {"imagenet-full"}
ATOMS = [name for name, reading in PRESETS.items() if "atoms" in reading.where or reading.unit == "%"]


@pytest.mark.parametrize("name", PRESETS)
def test_every_printed_figure_is_met_but_the_ones_that_say_so(name):
    found = compute(name)
    assert found.agrees == (name not in WITHOUT_READING)
    half_a_digit = 0.5 * 10 ** -len(found.reading.printed.partition(".")[2])
    assert (abs(found.figure - float(found.reading.printed)) <= half_a_digit) == found.agrees


@pytest.mark.parametrize("name", ATOMS)
def test_atoms_are_those_of_the_injected_model(name):
    """The reading as a user would tune it: peft injects the recipe into the architecture, numel is summed."""
    reading = preset(name)
    model = load_architecture(reading.model, num_classes=reading.classes)
    head = head_name(model)
    in_head = 0 if head is None else sum(p.numel() for p in model.get_submodule(head).parameters())
    (part,) = reading.parts
    found = compute(name)
    config = FilterSubspaceConfig(
        target_modules=[layer.name for layer in found.count.layers],
        atoms=part.recipe.atoms,
        block=part.recipe.block,
        block_spatial=part.recipe.block_spatial,
    )
    injected = get_peft_model(model, config, low_cpu_mem_usage=True)
    trained = sum(p.numel() for p in injected.parameters() if p.requires_grad)
    assert found.trained == trained + (in_head if reading.with_head else 0)


def test_totals_are_those_that_their_libraries_print():
    """88,591,464 and 859,520,964: ConvNeXt-B with 1,000 classes and the UNet of Stable Diffusion 1.x."""
    assert compute("imagenet-full").trained == 88_591_464
    assert compute("stable-diffusion-full").trained == 859_520_964


@pytest.mark.parametrize("name", ["vtab", "cifar100", "imagenet", "stable-diffusion", "resnet50", "resnet50-linear"])
def test_the_kept_reading_is_one_that_the_search_finds(name):
    found, kept = matching_readings(name), compute(name)
    trained = kept.count.trainable
    recipe = kept.reading.parts[0].recipe
    same = found[(found["trained"] == trained) & (found["m"] == recipe.atoms)]
    assert len(same) >= 1
    assert len(found) >= len(same)


def test_the_search_finds_lora_of_tables_1_and_3():
    for name in ("vtab-lora", "stable-diffusion-lora"):
        found = matching_readings(name)
        assert compute(name).count.trainable in set(found.loc[found["convention"] == "lora-loralib", "trained"])
        assert set(found["rank"]) <= set(POWERS_OF_TWO)


def test_no_power_of_two_gives_lora_of_table_2():
    """What docs/parameters.md says of 20.1 and 21.0 M."""
    assert matching_readings("cifar100-lora").empty
    assert matching_readings("imagenet-lora").empty
    every = tuple(range(1, 65))
    both = matching_readings("cifar100-lora", every).merge(
        matching_readings("imagenet-lora", every), on=["layers", "convention", "rank"]
    )
    assert set(both["rank"]) == {22}


@pytest.mark.parametrize("model", GROUPS)
def test_the_groups_of_the_search_share_the_layers_between_them(model):
    """No layer but the head is left out or in two groups."""
    module = load_architecture(model)
    head = head_name(module)
    names = select_layers(module, block=1, exclude=() if head is None else (head,))
    for name in names:
        assert sum(bool(re.search(pattern, name)) for pattern in GROUPS[model].values()) == 1, name


def test_the_table_has_a_row_a_preset():
    table = readings_table(("vtab", "resnet50"))
    assert table["preset"].tolist() == ["vtab", "resnet50"]
    assert table["computed"].tolist() == table["printed"].tolist()


def test_the_document_says_what_is_computed():
    """Every row of the table in docs/parameters.md, integer and verdict."""
    text = (Path(__file__).parent.parent / "docs" / "parameters.md").read_text(encoding="utf-8")
    for row in readings_table().itertuples():
        (line,) = [line for line in text.splitlines() if line.startswith(f"| {row.preset} |")]
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        verdict = "yes" if row.agrees else "**no**"
        assert cells[2:] == [
            f"{row.printed} {row.unit}",
            row.reading,
            f"{row.trained:,}",
            f"{row.computed} {row.unit}",
            verdict,
        ]


def test_unknown_preset():
    with pytest.raises(FiltersubError, match="unknown preset 'vtap'; did you mean 'vtab'"):
        compute("vtap")
