"""Each command of README and docs is one that the command line takes: its name, its options and their types."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from filtersub.cli import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", *(path.relative_to(ROOT).as_posix() for path in sorted(ROOT.glob("docs/*.md"))))


def words_of(page, pattern):
    text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
    return [shlex.split(found, comments=True)[1:] for found in dict.fromkeys(re.findall(pattern, text, re.MULTILINE))]


LINES = [(page, words) for page in PAGES for words in words_of(page, r"^(?: {4}|\$ )?(filtersub [a-z].*)$")]
MENTIONED = [(page, words) for page in PAGES for words in words_of(page, r"`(filtersub [a-z-]+ [^`]+)`")]


def command_of(words):
    """(the command that the words name, the words after its name)."""
    found, rest = typer.main.get_command(app), list(words)
    while hasattr(found, "commands"):
        assert rest[0] in found.commands, f"{rest[0]} is no command"
        found, rest = found.commands[rest[0]], rest[1:]
    return found, rest


def test_there_are_commands_to_check():
    assert len(LINES) > 20
    assert len(MENTIONED) > 20


@pytest.mark.parametrize(("page", "words"), LINES)
def test_a_line_of_code_is_taken_whole(page, words):
    command, rest = command_of(words)
    command.make_context(" ".join(words), rest).close()  # raises for options and values that are not known


@pytest.mark.parametrize(("page", "words"), MENTIONED)
def test_a_command_in_a_sentence_has_known_options(page, words):
    command, rest = command_of(words)
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    assert {word.partition("=")[0] for word in rest if word.startswith("--")} <= known
