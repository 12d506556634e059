"""Names of layers, files and ablations are printed as they are: nothing in them is markup, a field or a code."""

import io

import pytest
from rich.console import Console

from filtersub.cli.console import plain_console, print_table
from filtersub.progress import progress_bar, waiting

NAMES = ("layers[0]", "[red]model[/red]", "[/b]", ":cat:", "{task.id}", "%(name)s", "\\[x]", "[link=file:///x]y[/link]")


@pytest.mark.parametrize("name", NAMES)
def test_a_table_shows_names_as_they_are(name, capsys):
    print_table({name: [1], "layer": [name]}, title=f"of {name}")
    title, _, heading, _, row, _ = capsys.readouterr().out.splitlines()
    assert title.strip() == f"of {name}"
    assert heading.split("┃")[1].strip() == name
    assert row.split("│")[2].strip() == name


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shown_by", [progress_bar, waiting])
def test_bars_show_names_as_they_are(shown_by, name, monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr("rich.console.Console", lambda **_: Console(file=screen, force_terminal=True, width=200))
    with shown_by(name) as told:
        if shown_by is progress_bar:
            told(1, 2, name)
    assert name in screen.getvalue()


def test_numbers_are_not_coloured(capsys):
    plain_console(force_terminal=True).print("layer1.0 has 64")
    assert capsys.readouterr().out == "layer1.0 has 64\n"
