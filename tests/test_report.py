"""A report is a function of records: every run's numbers are in it, and nothing from the web."""

import base64
import html
import json
import re
from dataclasses import replace
from io import BytesIO

import nbformat
import pandas as pd
import pytest
from conftest import external_references
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from filtersub.ablation.notebook_html import draw_formulas, to_html
from filtersub.collect import collect, settings_table, tuning_table, varying_parameters
from filtersub.errors import FiltersubError
from filtersub.records import Record
from filtersub.report import answer, write_report
from filtersub.report.table import table_columns, table_rows

NBSP = "\N{NO-BREAK SPACE}"
ENVIRONMENT = {
    "versions": {"python": "3.11.9", "torch": "2.99.0"},
    "hardware": {"device": "cpu", "processor": "A processor", "threads": 2},
    "commit": "0123456789ab",
    "dirty": True,
    "date": "2026-01-31T12:00:00+00:00",
}
SETTINGS = {
    "linear probing": ({"method": "linear", "block": None}, 0, 0.70),
    "atoms m=9": ({"method": "filter-subspace", "block": None}, 2_673, 0.85),
    "atoms m=9, 4 blocks": ({"method": "filter-subspace", "block": 4}, 10_865, 0.90),
    "full tuning": ({"method": "full", "block": None}, 3_371_024, 0.95),
}


def record_of(label, seed=0, accuracy=None, **changes):
    parameters, trainable, mean = SETTINGS[label]
    accuracy = mean + 0.01 * (seed - 0.5) if accuracy is None else accuracy
    record = {
        "kind": "tuning",
        "label": label,
        "parameters": {**parameters, "epochs": 8, "seed": seed},
        "seed": seed,
        "metrics": {"test_accuracy": accuracy},
        "counts": {"trainable": trainable, "head": 12_810, "total": 3_383_834},
        "cost": {"wall_seconds": 61.0 + seed, "seconds_per_step": 0.1234, "peak_memory_bytes": 2**30},
        "environment": ENVIRONMENT,
    }
    return Record(**{**record, **changes})


def history_of(accuracy):
    return pd.DataFrame({"epoch": [1, 2], "test_accuracy": [accuracy / 2, accuracy]})


@pytest.fixture
def root(tmp_path):
    for number, label in enumerate(SETTINGS):
        for seed in (0, 1):
            record = record_of(label, seed)
            folder = tmp_path / "runs" / f"run{number}-seed{seed}"
            record.write(folder, history=history_of(record.metrics["test_accuracy"]))
            (folder / "notebook.html").write_text("<p>executed</p>")
    rows = [{"name": "a", "m": m, "shape": "[8, 1, 3, 3]", "relative_error": 1 / m} for m in (2, 4)]
    decomposition = record_of("atoms m=9", kind="decomposition", metrics={"relative_error": 0.5})
    decomposition.write(tmp_path / "runs" / "decomposition", curve=pd.DataFrame(rows))
    return tmp_path


def page_of(root, **options):
    return write_report(root, **options).read_text(encoding="utf-8")


def words_of(page):
    page = re.sub(r"<(style|script|svg).*?</\1>", " ", page, flags=re.S)
    return " ".join(re.sub(r"<[^>]+>", " ", page).replace(NBSP, " ").split())


@pytest.mark.parametrize(("evaluated", "drawn"), [([1, 2, 3], "test"), ([2, 3], "test"), ([3], "train"), ([], "train")])
def test_curves_are_of_test_images_where_these_make_a_curve(root, evaluated, drawn):
    for folder in (root / "runs").glob("run*"):
        table = pd.DataFrame({"epoch": [1, 2, 3], "train_accuracy": [0.2, 0.4, 0.625]})
        table["test_accuracy"] = [0.5 if epoch in evaluated else None for epoch in table["epoch"]]
        table.to_csv(folder / "history.csv", index=False)
    page = page_of(root)
    assert f"{drawn.capitalize()} accuracy after each epoch" in page
    assert re.findall(r'"name": ?"measure", ?"value": ?"(\w+)"', page) == 2 * [
        f"{drawn}_accuracy"
    ]  # of all runs, of a pair


def test_what_changes_nothing_that_is_learned_makes_no_other_setting():
    one, two, other = (
        record_of("atoms m=9", seed, parameters={"method": "filter-subspace", **changes})
        for seed, changes in ((0, {}), (1, {"evaluation_interval": 4, "workers": 2}), (1, {"epochs": 3}))
    )
    assert varying_parameters([one, two]) == []
    assert varying_parameters([one, two, other]) == ["epochs"]


def test_every_number_of_every_run_is_in_the_page(root):
    page, words = page_of(root), words_of(page_of(root))
    for folder, record in collect(root).of_kind("tuning").items():
        assert f"{100 * record.metrics['test_accuracy']:.1f} %" in words
        assert f"{record.counts['trainable']:,}" in words
        assert f"{record.cost['wall_seconds']:.0f} s" in words
        assert f'href="{folder.relative_to(root).as_posix()}/notebook.html"' in page
    for told in ("12,810", "3,383,834", "0.123 s", "1,024 MiB", "epochs = 8", "torch 2.99.0", "A processor"):
        assert told in words
    assert "0123456789ab, with uncommitted changes" in words
    assert "from 50.0 % at m = 2 to 25.0 % at m = 4" in words


def test_the_answer_is_computed_with_its_spread(root):
    text = answer(settings_table(tuning_table(collect(root).records))).replace(NBSP, " ")
    assert "most accurate of the 2 atom settings tried, atoms m=9, 4 blocks" in text
    assert "10,865 atom parameters (0.32 % of the model's 3.38M)" in text
    half = 100 * 12.7062 * 0.01 / 2**0.5 / 2**0.5  # t of one degree of freedom, times the standard error of 2 seeds
    ends = f"95 % t interval {90 - half:.1f} to {90 + half:.1f} %"
    assert f"90.0 % test accuracy (mean of 2 seeds, 89.5 to 90.5 %; {ends})" in text
    assert "70.0 % when the head alone is trained and 95.0 % when all 3.38M parameters are" in text
    assert "80 % of the way" in text


def test_trained_coefficients_are_a_control_and_no_atom_setting(root):
    for seed in (0, 1):
        record = record_of("atoms m=9", seed, 0.94 + seed / 100)
        record = replace(record, label="atoms m=9, alpha trained too")
        record.parameters["train_coefficients"] = True
        record.counts["trainable"] = 3_238_481
        record.write(root / "runs" / f"control-{seed}")
    settings = settings_table(tuning_table(collect(root).records))
    text = answer(settings).replace(NBSP, " ")
    assert "most accurate of the 2 atom settings tried, atoms m=9, 4 blocks" in text
    assert "With the coefficients trained too, a control, atoms m=9, alpha trained too trains 3,238,481 param" in text
    assert "reaches 94.5 % (mean of 2 seeds, 94.0 to 95.0 %" in text
    assert "against it frozen coefficients are \N{MINUS SIGN}4.5 points" in text
    assert "other methods" not in text
    assert "Coefficients too" in words_of(page_of(root))


def test_atoms_below_the_head_alone_close_no_part_of_the_gap(tmp_path):
    for label, accuracy in (("linear probing", 0.7), ("atoms m=9", 0.6), ("full tuning", 0.9)):
        record_of(label, 0, accuracy).write(tmp_path / label)
    text = answer(settings_table(tuning_table(collect(tmp_path).records)))
    assert "That is less than the head alone reaches, on average." in text
    assert "of the way" not in text


def test_a_notebook_that_reads_records_goes_by_its_question(root):
    folder = root / "runs" / "summary-dddddddd"
    folder.mkdir()
    (folder / "run.json").write_text('{"status": "done"}')
    plan = {"run_id": folder.name, "folder": f"runs/{folder.name}", "reads_records": True, "notebook": "03_summary"}
    (root / "ablation.json").write_text(json.dumps({"name": "n", "title": "T", "question": "Q?", "runs": [plan]}))
    (folder / "notebook.html").write_text("<title>What does R &amp; D buy?</title>")
    link = f'<a href="runs/{folder.name}/notebook.html">'
    assert f"{link}What does R &amp; D buy?</a>" in page_of(root)
    (folder / "notebook.html").write_text("<p>without a title</p>")
    assert f"{link}Summary</a>" in page_of(root)


def test_one_seed_is_said_to_be_one(tmp_path):
    record_of("atoms m=9").write(tmp_path / "a")
    assert "one seed, so its spread is not known" in words_of(page_of(tmp_path))


def test_the_page_needs_nothing_from_elsewhere(root):
    page = page_of(root)
    assert external_references(page) == []
    assert "default-src 'none'" in html.unescape(page)
    assert page.count('<figure class="plot"><svg ') == 8  # four figures, for wide and for narrow pages
    markup = re.sub(r"<script\b.*?</script>", "", page, flags=re.S)
    for tag in re.findall(r"<(?:svg|img)\b[^>]*>", markup):
        assert re.search(r'(aria-label|alt)="[^"]{10,}"', tag) or "<image" in tag


def test_the_runs_can_be_downloaded(root):
    page = page_of(root)
    csv, parquet = (
        BytesIO(base64.b64decode(re.search(rf"data:{kind};base64,([^\"]+)", page)[1]))
        for kind in ("text/csv", "application/vnd.apache.parquet")
    )
    files = [pd.read_csv(root / "runs.csv"), pd.read_parquet(root / "runs.parquet")]
    for table in (pd.read_csv(csv), pd.read_parquet(parquet), *files):
        assert len(table) == 8
        assert {"label", "seed", "test_accuracy", "trainable", "head", "total", "folder"} <= set(table)
        assert not table["folder"].str.startswith("/").any()


def test_damaged_failed_and_replaced_runs_are_named(root):
    (root / "runs" / "run0-seed0" / "record.json").write_text("{")
    for digest, date in (("aaaaaaaa", "2026-01-01"), ("bbbbbbbb", "2026-02-01")):
        newer = record_of("atoms m=9", seed=2, environment={**ENVIRONMENT, "date": f"{date}T00:00:00+00:00"})
        newer.write(root / "runs" / f"work-{digest}")
    failed = root / "runs" / "broken-cccccccc"
    failed.mkdir()
    (failed / "error.txt").write_text("ValueError: <no> & never\n\ntraceback")
    plan = {"run_id": failed.name, "folder": f"runs/{failed.name}", "reads_records": False, "notebook": "n"}
    (root / "ablation.json").write_text(json.dumps({"name": "n", "title": "A title", "question": "Q?", "runs": [plan]}))
    page = page_of(root)
    assert "runs/run0-seed0/record.json is not a readable record" in page
    assert "broken-cccccccc</strong>: ValueError: &lt;no&gt; &amp; never" in page
    assert "1 run that newer ones replace: work-aaaaaaaa" in words_of(page)
    assert "<h1>A title</h1>" in page
    assert str(root) not in page


def test_settings_that_differ_in_more_than_their_label_are_kept_apart(tmp_path):
    for epochs in (4, 8):
        record = record_of("full tuning")
        record.parameters["epochs"] = epochs
        record.write(tmp_path / f"e{epochs}")
    settings = settings_table(tuning_table(collect(tmp_path).records))
    assert settings["label"].tolist() == ["full tuning, epochs 4", "full tuning, epochs 8"]


def test_records_of_before_a_setting_existed_have_its_default(tmp_path):
    """A record without augmentation is one of none: it stands with those that say so, apart from those that do not."""
    augmentations = (("before", {}), ("now", {"augmentation": "none"}), ("views", {"augmentation": "crop-flip"}))
    for seed, (name, own) in enumerate(augmentations):
        record = record_of("full tuning", seed=seed)
        record.parameters.update(own)
        record.write(tmp_path / name)
    settings = settings_table(tuning_table(collect(tmp_path).records)).sort_values("label")
    assert settings["label"].tolist() == ["full tuning, augmentation crop-flip", "full tuning, augmentation none"]
    assert settings["seeds"].tolist() == [[2], [0, 1]]


def test_runs_judged_on_validation_images_are_not_compared(tmp_path):
    record_of("full tuning").write(tmp_path / "a")
    record_of("linear probing", metrics={"validation_accuracy": 0.5}).write(tmp_path / "b")
    assert tuning_table(collect(tmp_path).records)["label"].tolist() == ["full tuning"]
    assert "1 run judged on validation images" in words_of(page_of(tmp_path))


def test_an_empty_folder_reports_that_nothing_is_there(tmp_path):
    assert "No record is there yet, so the question stays open" in page_of(tmp_path)


def test_a_missing_folder_is_one_clear_line(tmp_path):
    with pytest.raises(FiltersubError, match="is not a folder"):
        write_report(tmp_path / "absent")


def executed(*outputs, source="x = 1", text="# What?\n\nSince $\\alpha \\times D$ and `$code$`."):
    return new_notebook(cells=[new_markdown_cell(text), new_code_cell(source, outputs=list(outputs))])


def test_a_notebook_page_is_self_contained():
    png = base64.b64encode(b"not really a picture").decode()
    outputs = [
        new_output("stream", name="stdout", text="said"),
        new_output("display_data", data={"image/png": png}, metadata={"image/png": {"alt": "a curve"}}),
        new_output("display_data", data={"image/png": png}),
        new_output("display_data", data={"application/javascript": "require(['x'])"}),
    ]
    page = to_html(executed(*outputs), name="n", environment=ENVIRONMENT, run={"parameters": {"a": 1}})
    assert external_references(page) == []
    assert "<script" not in page
    assert "<title>What?</title>" in page
    assert 'alt="a curve"' in page
    assert all("alt=" in tag for tag in re.findall(r"<img\b[^>]*>", page))
    assert page.count("<details>") == 1  # the code, closed until a reader opens it
    for fact in ("a = 1", "0123456789ab", "torch 2.99.0", "cpu, A processor, 2 threads", "2026-01-31"):
        assert fact in page


def test_formulas_become_pictures_with_their_source_as_text():
    drawn = draw_formulas("Let $F = \\alpha \\times D$, `$x$` and $$a < b$$; costs $5 and $6.\n```\n$y$\n```")
    assert re.findall(r'alt="([^"]+)"', drawn) == ["F = \\alpha \\times D", "a &lt; b"]
    assert "`$x$`" in drawn
    assert "costs $5 and $6." in drawn
    assert "```\n$y$\n```" in drawn
    assert draw_formulas("$\\nosuchcommand{x}$") == "`\\nosuchcommand{x}`"


@pytest.mark.parametrize(
    "fetching",
    [
        '<script src="https://x.org/a.js"></script>',
        "<img alt='' src=picture.png>",
        '<link rel="stylesheet" href="style.css">',
        "<style>@font-face { src: url(font.woff) }</style>",
        "<style>@import 'a.css';</style>",
    ],
)
def test_references_to_elsewhere_are_found(fetching):
    assert len(external_references(fetching)) >= 1
    assert external_references('<a href="https://x.org">link</a><img src="data:image/png;base64,AA">') == []


def test_the_error_of_a_failed_notebook_stands_at_its_top():
    error = new_output("error", ename="ValueError", evalue="<bad>", traceback=["line"])
    page = to_html(executed(error), name="n")
    assert "This run failed." in page
    assert "ValueError: &lt;bad&gt;" in page
    assert nbformat.validate(executed(error)) is None


def test_a_setting_that_means_nothing_to_a_method_has_a_dash_in_the_table(tmp_path):
    for label, method, rank in (("atoms m=9", "filter-subspace", 16), ("full tuning", "full", 16), ("LoRA", "lora", 2)):
        known = {"method": method, "rank": rank, "atoms": rank, "epochs": 8, "seed": 0}
        record = replace(record_of("full tuning"), label=label, parameters=known)
        record.write(tmp_path / label, history=history_of(0.9))
    found = collect(tmp_path)
    runs = tuning_table(found.records)
    columns = table_columns(list(found.records.values()), runs)
    shown = {
        row["label"]: {cell["heading"]: cell["text"] for cell in row["cells"] if cell["heading"] in ("atoms", "rank")}
        for row in table_rows(found, runs, columns)
    }
    blank = {"atoms": "–", "rank": "–"}
    assert shown == {"atoms m=9": {**blank, "atoms": "16"}, "full tuning": blank, "LoRA": {**blank, "rank": "2"}}
