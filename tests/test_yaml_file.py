"""YAML that is wrong is one line with its place, through every door."""

import math

import pytest

from filtersub.ablation import load_spec
from filtersub.errors import FiltersubError
from filtersub.recipe_file import read_override, read_recipe
from filtersub.recipes import load_recipe
from filtersub.yaml_file import ScientificLoader, load_yaml

WRONG = {
    "an impossible date": "a: 1\nb: 2026-13-45",
    "a day that is not there": "a: 1\nb: 2025-02-29",
    "an impossible time": "a: 1\nb: 2026-01-01 25:61:61",
    "a tag of another type": "a: 1\nb: !!int foo",
    "a time that is none": "a: 1\nb: !!timestamp foo",
    "true or false that is neither": "a: 1\nb: !!bool maybe",
    "an empty number": "a: 1\nb: !!float ''",
    "a tag of Python": "a: 1\nb: !!python/object/apply:os.system [x]",
    "an unknown tag": "a: 1\nb: !what x",
    "5,000 digits": f"a: 1\nb: {'1' * 5_000}",
    "3,000 brackets": f"a: 1\nb: {'[' * 3_000}{']' * 3_000}",
    "3,000 mappings": f"a: 1\nb: {'{a: ' * 3_000}1{'}' * 3_000}",
    "a list as a key": "a: 1\n? [b, c]\n: d",
    "a mapping as a key": "a: 1\n{b: c}: d",
    "a key twice": "a: 1\na: 2",
    "an alias of nothing": "a: 1\nb: *c",
    "merging a number": "a: 1\n<<: 3",
    "cut": "a: 1\nb: [1, 2",
    "a tabulator": "a: 1\n\tb: 2",
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_one_line_with_its_place_at_every_door(name, tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(WRONG[name])
    for read in (load_spec, read_recipe, load_recipe):
        with pytest.raises(FiltersubError) as caught:
            read(path)
        said = str(caught.value)
        assert said.startswith(f"{path}:2"), said
        assert "\n" not in said
        assert len(said) < 300 + len(str(path))


def test_what_is_right_is_read():
    text = "a: 1e-3\nb: [1, 0x10, .inf, ~, yes, 2026-01-31]\nc: {<<: {d: 1}, e: 2}\nf: '1'"
    read = load_yaml(text, "here")
    assert read["a"] == "1e-3"
    assert load_yaml(text, "here", ScientificLoader)["a"] == 0.001
    assert read["b"][:2] == [1, 16]
    assert read["b"][3:5] == [None, True]
    assert math.isinf(read["b"][2])
    assert (read["c"], read["f"]) == ({"d": 1, "e": 2}, "1")


LISTS = {
    "solver: [lasso]": r"own.yaml: solver must be str, got \['lasso'\]",
    "learner: {a: b}": "learner must be str",
    "atoms: '9'": "atoms must be int, got '9'",
    "atoms: true": "atoms must be int, got True",
    "block: [1, 2, 3]": "block must be int or tuple",
    "l1_penalty: .nan": "l1_penalty must be float, got nan",
    "tol: 2026-01-01": "tol must be float, got datetime",
    "shared_dictionary: 3": "shared_dictionary must be bool or str or list",
    "layers: [a]": "layers must be str or None",
    "max_error: small": "max_error must be float or None",
    "overrides: [a]": "overrides must be",
    "overrides: {stem: {solver: [a]}}": "the override of 'stem': solver must be str",
}


@pytest.mark.parametrize("text", LISTS)
def test_a_setting_of_another_type_is_named(text, tmp_path):
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(FiltersubError, match=LISTS[text]):
        read_recipe(tmp_path / "own.yaml")


@pytest.mark.parametrize("text", ["stem:solver=[a]", "stem:atoms=2026-13-45", "stem:atoms=[", "stem:block=[1,2,3]"])
def test_an_override_of_another_type_is_named(text):
    with pytest.raises(FiltersubError, match=r"the override 'stem:|cannot read the value"):
        read_override(text)


def test_settings_that_are_right_pass(tmp_path):
    (tmp_path / "own.yaml").write_text(
        "atoms: 6\nblock: [2, 4]\nl1_penalty: 0\nshared_dictionary: [a, b]\nmax_error: 1e-1\n"
    )
    assert read_recipe(tmp_path / "own.yaml")["block"] == [2, 4]
