"""Tables of the command line in a terminal."""

import pandas as pd
import pytest
from rich.console import Console

from filtersub.cli import console

COUNTS = pd.DataFrame({"method": ["filter-subspace", "lora-ungrouped"], "layers": [53, 53]})
COUNTS = COUNTS.assign(**{f"adapter_bytes_{n}": [490_427_844, 980_855_688] for n in range(5)})
RUNS = {
    "run": [
        "decomposition-3b1b2cc5",
        "tuning-filter-subspace-atoms9-learning-rate0.01-head-learning-rate0.003-seed0-411d",
    ],
    "trained": [None, 2_673],
    "note": ["there already", "to be made, about as long as the run before"],
}


@pytest.fixture
def printed(monkeypatch, capsys):
    """The lines of a table in a terminal of some width."""

    def lines(table, width, **options):
        def terminal(**own):
            return Console(**{"width": width, "force_terminal": True, "color_system": None, **own})

        monkeypatch.setattr(console, "plain_console", terminal)
        console.print_table(table, "counted", **options)
        return capsys.readouterr().out.splitlines()

    return lines


@pytest.mark.parametrize(("width", "parts"), [(40, 5), (80, 2), (140, 1)])
def test_no_word_or_number_is_broken_and_no_line_is_wider_than_the_terminal(width, parts, printed):
    lines = printed(COUNTS, width)
    assert max(map(len, lines)) <= width
    words = [word.strip("│┃") for line in lines for word in line.split()]
    assert {"filter-subspace", "lora-ungrouped", "490,427,844", "adapter", "layers"} <= {*words}
    assert words.count("490,427,844") == words.count("980,855,688") == 5
    assert words.count("filter-subspace") == parts, "each part begins with the first column"
    assert sum(line.startswith("│") for line in lines) == (2 if width == 140 else 0)


def test_long_names_are_folded_after_hyphens_and_further_lines_are_indented(printed):
    lines = [line.rstrip() for line in printed(RUNS, 60)]
    assert max(map(len, lines)) <= 60
    names = [line.split("  ")[0] if line[:1] != " " else line.split()[0] for line in lines[3:]]
    assert names[0] == RUNS["run"][0]
    assert "".join(names[1:]) == RUNS["run"][1]
    assert all(name.endswith("-") for name in names[1:-1])
    assert all(line.startswith("  ") for line in lines[5:])


def test_each_part_repeats_the_key_columns(printed):
    assert sum("53" in line for line in printed(COUNTS, 60, keys=2)) == 2 * 3
    assert sum("53" in line for line in printed(COUNTS, 60)) == 2


def test_a_name_wider_than_the_terminal_stands_whole(printed):
    name = "blockswithoutanyplacetofoldatalllllllll"
    lines = printed({"layer": [name], "rows": [7]}, 20)
    assert any(name in line and line.rstrip().endswith("7") for line in lines)
