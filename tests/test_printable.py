"""Names with control characters and bidi marks break no table and no page, and send nothing to a terminal."""

import csv
import re
import sys
from io import StringIO

import pandas as pd
import pytest
import yaml
from PIL import Image
from rich.console import Console
from test_report import page_of
from test_report_effects import record_of
from typer.testing import CliRunner

from filtersub.ablation.progress import RunProgress
from filtersub.ablation.spec import load_spec
from filtersub.cli import app, console, main
from filtersub.collect import collect
from filtersub.data.csv_lists import open_csv
from filtersub.files import csv_text
from filtersub.printable import printable, printable_in_page
from filtersub.records import read_table

NAMES = {
    "line": "a\nb",
    "return": "a\rb",
    "tab": "a\tb",
    "vertical": "a\x0bb",
    "escape": "\x1b[31mred\x1b[0m",
    "title": "\x1b]0;owned\x07",
    "one_byte_csi": "\x9b31m",
    "delete": "a\x7f\x08b",
    "bidi": "\u202etxt.exe",
    "isolate": "\u2066a\u2069\u200f",
    "separators": "a\u2028b\u2029c\x85d",
    "nul": "a\0b",
}
LEGITIMATE = ("é", "ζ₁ × D", "\u0645\u06cc\u200c\u062e\u0648", "👩\u200d🔬", "a b", "\\x1b")
STEERING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")

every_name = pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)


@every_name
def test_what_steers_is_written_out(name):
    text = printable(name)
    assert not STEERING.search(text)
    assert "\n" not in text
    assert text.encode("ascii").decode("unicode_escape") == name  # nothing is lost
    assert not STEERING.search(printable_in_page(name).replace("\t", "").replace("\r", ""))


@pytest.mark.parametrize("text", LEGITIMATE)
def test_letters_of_any_script_stay(text):
    assert printable(text) == printable_in_page(text) == text


@every_name
def test_a_table_has_one_line_a_row(name, capsys):
    console.print_table({name: [name, "b"], "n": [1, 2]}, name)
    console.say(f"{name} said")
    console.Tenths()(name, 1, 1)
    out, err = capsys.readouterr()
    assert not STEERING.search(out + err)
    assert out.count("\n") == 1 + 3 + 2 + 1 + 1  # title, heading, rows, foot, line
    assert err.count("\n") == 1


def test_csv_is_as_it_is_but_on_a_terminal(capsys, monkeypatch):
    table = pd.DataFrame({"name": list(NAMES.values()), "n": range(len(NAMES))})
    console.print_csv(table)
    assert capsys.readouterr().out == csv_text(table)
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda self: True, raising=False)
    console.print_csv(table)
    out = capsys.readouterr().out
    assert not STEERING.search(out)
    assert out.count("\n") == 1 + len(table)


@every_name
def test_an_error_is_one_line(name, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["filtersub", "report", f"no{name.replace(chr(0), '')}"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert not STEERING.search(err)


@every_name
def test_classes_of_a_folder_are_printed(name, tmp_path):
    if "\0" in name:
        pytest.skip("no file system has a name with it")
    for label in (name, "other"):
        folder = tmp_path / "images" / label
        folder.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(folder / "1.png")
        (folder / f"{name}.png").write_bytes(b"no image")
    found = CliRunner().invoke(app, ["data", "check", f"folder:{tmp_path / 'images'}"])
    assert found.exit_code == 1
    assert "problem" in found.output
    assert not STEERING.search(found.output)


def test_labels_of_a_list_stay_what_they_are(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    for name in NAMES.values():
        table = pd.DataFrame({"path": ["a.png"] * 4, "label": [name, name, "b", "b"]})
        table.to_csv(tmp_path / "list.csv", index=False, quoting=csv.QUOTE_ALL)
        assert set(open_csv(tmp_path / "list.csv", {}).classes) == {name, "b"}


def own_text(page):
    """The page without the code of its scripts, whose minified sources hold such characters; data in scripts stays."""
    scripts = re.findall(r"<script(?![^>]*json)[^>]*>.*?</script>", page, flags=re.S)
    for script in scripts:
        page = page.replace(script, "")
    return page.replace("\t", "").replace("\r", "")


@every_name
def test_records_and_reports(name, tmp_path):
    for seed in (0, 1):
        record = record_of({"method": "filter-subspace", "atoms": 9 + seed, "note": name}, 0.5)
        record.__dict__["label"] = name
        record.notes["a layer"] = name
        record.write(tmp_path / f"run{seed}")
    found = collect(tmp_path)
    assert {record.label for record in found.records.values()} == {name}
    page = page_of(tmp_path)
    assert not STEERING.search(own_text(page))
    assert own_text(page).count("</html>") == 1
    runs = read_table(tmp_path / "runs.csv")
    assert len(runs) == 2
    if "\0" not in name:
        assert runs["label"].str.startswith(name).all()


@every_name
def test_titles_and_parameters_of_an_ablation(name, tmp_path):
    notebook = tmp_path / "own.ipynb"
    notebook.write_text("{}")
    content = {"name": "own", "title": name, "question": name}
    content["stages"] = [{"notebook": str(notebook), "parameters": {"word": name}}]
    file = tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    spec = load_spec(str(file))
    assert spec.title == " ".join(name.split())
    record_of({"rate": 1}, 0.5, kind="own").write(tmp_path / "runs" / "r")
    page = page_of(tmp_path / "runs", spec=spec)
    assert not STEERING.search(own_text(page))


@every_name
def test_a_batch_says_its_lines_printable(name):
    file = StringIO()
    RunProgress(1, console=Console(file=file)).told([f"failed: {name}"])
    assert file.getvalue() == f"failed: {printable(name)}\n"
