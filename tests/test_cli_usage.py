"""Every command called wrongly: one line that names the bad word and the fix, exit code 2, no output."""

import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from filtersub.cli import app, main
from filtersub.cli.help_pages import EXAMPLES


def commands(group, words=()):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*words, name))
        else:
            yield (*words, name), command


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.fixture
def said(monkeypatch, capsys):
    """What the command line writes for these words: (exit code, its line on standard error)."""

    def call(*words):
        monkeypatch.setattr("sys.argv", ["filtersub", *words])
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("filtersub: ")
        assert err.count("\n") == 1
        assert err.endswith("\n")
        return left.value.code, err

    return call


def options(command):
    return [each for each in command.params if each.opts[0].startswith("--")]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_an_option_that_is_misspelt_is_named_with_the_nearest(words, said):
    for option in options(COMMANDS[words]):
        known = option.opts[0]
        wrong = f"{known[:-1]}{known[-1]}{known[-1]}"
        code, line = said(*words, wrong)
        assert code == 2
        assert line == f"filtersub: unknown option {wrong!r}; did you mean {known!r}?\n"


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_an_option_like_none_leads_to_the_page(words, said):
    page = f"see `filtersub {' '.join(words)} --help`"
    assert said(*words, "--qqqqqqq") == (2, f"filtersub: unknown option '--qqqqqqq'; {page}\n")
    assert said(*words, "-z") == (2, f"filtersub: unknown option '-z'; {page}\n")


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_what_is_missing_is_named(words, said):
    needed = [each for each in COMMANDS[words].params if each.required]
    if needed:
        code, line = said(*words)
        assert code == 2
        assert any(f" {each.opts[0]} is missing" in line for each in needed)
        assert f"as in `{EXAMPLES[words[-1]][0]}`" in line
    for option in options(COMMANDS[words]):
        if not option.is_flag:
            code, line = said(*words, option.opts[0])
            assert code == 2
            assert f"option '{option.opts[0]}' requires an argument; see `filtersub {' '.join(words)} --help`" in line


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_value_of_the_wrong_kind_is_named(words, said):
    tried = 0
    for option in options(COMMANDS[words]):
        kind = "".join(str(getattr(option, name, "")) for name in ("type", "type_descriptor")).lower()
        number = "a whole number" if "int" in kind else "a number" if "float" in kind else None
        if option.is_flag or number is None:
            continue
        for given in ((option.opts[0], "many\nmore"), (f"{option.opts[0]}=many\nmore",)):
            code, line = said(*words, *["x"] * _places(COMMANDS[words]), *given)
            if "is missing" in line:
                continue  # another one is needed first
            assert code == 2
            assert f"{option.opts[0]} takes {number}; got 'many\\nmore'" in line
            tried += 1
    assert tried or not {"tune", "count", "suggest", "decompose"} & set(words)


def _places(command):
    return sum(each.required and not each.opts[0].startswith("--") for each in command.params)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_words_too_many_are_named(words, said):
    if any(each.nargs == -1 for each in COMMANDS[words].params):
        return  # takes any number
    code, line = said(*words, *["x"] * 9, "the last\x1b[31m")
    assert code == 2
    assert "the last" in line or "is missing" in line
    assert "\x1b" not in line


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_switch_takes_no_value(words, said):
    for option in options(COMMANDS[words]):
        if option.is_flag:
            code, line = said(*words, f"{option.opts[0]}=7")
            assert code == 2
            assert f"'{option.opts[0]}' does not take a value" in line


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_that_is_misspelt_is_named_with_the_nearest(words, said):
    *group, name = words
    code, line = said(*group, f"{name}{name[-1]}")
    assert code == 2
    assert f"no such command '{name}{name[-1]}'" in line
    assert f"'{name}'" in line
    code, line = said(*group, "zzzzz")
    assert code == 2
    assert f"no such command 'zzzzz'; see `filtersub {' '.join([*group, '--help'])}`" in line


@pytest.mark.parametrize("words", [[], ["data"], ["--help"], ["data", "--help"], *[[*w, "-h"] for w in COMMANDS]])
def test_pages_of_help_stay_pages(words):
    shown = CliRunner().invoke(app, words)
    assert "Usage:" in shown.output
    assert shown.exit_code == (0 if words and words[-1] in ("-h", "--help") else 2)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_no_option_is_cut_at_80_columns(words):
    page = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "80", "TERM": "dumb"}).output
    shown = set(page.replace(",", " ").split())
    assert {name for each in options(COMMANDS[words]) for name in (*each.opts, *each.secondary_opts)} <= shown


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "RuntimeError('in a class') from KeyboardInterrupt()"])
def test_an_interrupt_before_the_commands_are_imported_is_one_line(error, tmp_path):
    code = (
        "import sys\n"
        "class Interrupted:\n"
        "    def find_spec(name, *_):\n"
        f"        if name == 'typer': raise {error}\n"
        "sys.meta_path.insert(0, Interrupted)\n"
        "from filtersub.cli import main\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "filtersub: interrupted; what was finished is kept, run the same command to go on\n"
