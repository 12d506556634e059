"""Help pages: few options first, the rest in titled groups, examples that the command takes."""

import shlex

import pytest
import typer
from typer.testing import CliRunner

from filtersub.cli import app, main
from filtersub.cli.help_pages import EXAMPLES, FIRST, GROUPS

ROOT = typer.main.get_command(app)


def commands(group=ROOT, words=()):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*words, name))
        else:
            yield (*words, name), command


COMMANDS = dict(commands())


def options_of(command):
    return {each.name: each for each in command.params if each.param_type_name == "option"}


def test_the_tables_name_what_there_is():
    known = {name for command in COMMANDS.values() for name in options_of(command)}
    grouped = [name for names in GROUPS.values() for name in names]
    assert set(grouped) <= known
    assert len(grouped) == len(set(grouped))
    by_name = {words[-1]: command for words, command in COMMANDS.items()}
    assert set(EXAMPLES) == set(by_name)
    for name, first in FIRST.items():
        assert set(first) <= set(options_of(by_name[name]))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_few_options_come_first_and_the_rest_in_groups(words):
    command = COMMANDS[words]
    loose = [name for name, option in options_of(command).items() if option.rich_help_panel is None]
    assert len(loose) <= 10
    if words[-1] in FIRST:
        assert loose == list(FIRST[words[-1]])
    titles = [option.rich_help_panel for option in options_of(command).values() if option.rich_help_panel]
    assert list(dict.fromkeys(titles)) == [title for title in GROUPS if title in titles]  # each group once


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_page_ends_in_examples_that_the_command_takes(words):
    shown = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "120"})
    assert shown.exit_code == 0
    _, _, tail = shown.output.partition("Examples:")
    assert [line.strip() for line in tail.splitlines() if line.strip()] == list(EXAMPLES[words[-1]])
    for example in EXAMPLES[words[-1]]:
        program, *given = shlex.split(example)
        assert program == "filtersub"
        assert given[: len(words)] == list(words)
        COMMANDS[words].make_context(words[-1], given[len(words) :]).close()  # raises for what is not known


def test_every_command_is_listed_with_its_first_sentence():
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "120"}).output
    for words in COMMANDS:
        assert words[0] in shown


@pytest.mark.parametrize("words", [("data",), *COMMANDS], ids=" ".join)
def test_a_command_is_built_alone_and_is_the_one_among_all(words, monkeypatch, capsys):
    built, build = [], typer.main.get_command_from_info
    monkeypatch.setattr("sys.argv", ["filtersub", *words, "--help"])
    monkeypatch.setattr(typer.main, "get_command_from_info", lambda **given: built.append(given) or build(**given))
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 0
    assert len(built) == (1 if words[0] != "data" else sum(each[0] == "data" for each in COMMANDS))
    page, among_all = capsys.readouterr().out, CliRunner().invoke(app, [*words, "--help"]).output
    assert [line for line in page.splitlines() if "Usage:" not in line] == [
        line for line in among_all.splitlines() if "Usage:" not in line
    ]
