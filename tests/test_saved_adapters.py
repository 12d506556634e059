"""What ``tune`` saves, loaded by plain peft: the model that was judged; the card beside it says how."""

import ast
import copy
import json
import re
import subprocess
import sys
import warnings
from dataclasses import replace

import pandas as pd
import pytest
import torch
from markdown_it import MarkdownIt
from peft import PeftModel
from torch import nn
from torch.utils.data import DataLoader

from filtersub.decomposition import DecompositionConfig
from filtersub.experiment import TuneSettings, saved_weights, tune
from filtersub.experiment.model_card import CARD_FILE, model_card
from filtersub.experiment.saved_weights import ADAPTER_FOLDER, STATISTICS_FILE, load_trained, save_trained
from filtersub.experiment.tuned import load_tuned
from filtersub.methods import METHODS, MethodOptions, inject
from filtersub.percentages import percentage
from filtersub.training import evaluate

BY_PEFT = [name for name, method in METHODS.items() if method.by_peft]
OPTIONS = MethodOptions(rank=4, oft_block=4, boft_block=4)
RECIPE = DecompositionConfig(atoms=3, solver="pca")
SMALL = TuneSettings(
    model="test_resnet", pretrained=False, n_train=50, epochs=1, batch_size=25, image_size=32, solver="pca", rank=4
)


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def trained(base, method, head, images, seed=0):
    """The base with what the method trains moved, and running statistics as training leaves them."""
    model = inject(base, method, head, recipe=RECIPE, options=OPTIONS).model
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
        for _ in range(3):
            model.train()(images + seed)
    return model.eval()


@pytest.mark.parametrize("method", BY_PEFT)
def test_plain_peft_loads_what_was_judged(method, every_kind, images, tmp_path):
    untouched, before = copy.deepcopy(every_kind), every_kind(images)
    model = trained(every_kind, method, "classifier", images)
    wanted = model(images)
    save_trained(model, replace(SMALL, method=method), tmp_path)
    assert not (tmp_path / STATISTICS_FILE).exists()
    loaded = PeftModel.from_pretrained(untouched, tmp_path / ADAPTER_FOLDER).eval()
    assert torch.equal(loaded(images), wanted)
    assert not torch.allclose(wanted, before, atol=1e-3)
    with loaded.disable_adapter():
        torch.testing.assert_close(loaded(images), before)


def test_frozen_statistics_are_not_saved(every_kind, images, tmp_path):
    model = inject(every_kind, "lora", "classifier", options=OPTIONS).model
    save_trained(model, replace(SMALL, method="lora", batch_norm="frozen"), tmp_path)
    config = json.loads((tmp_path / ADAPTER_FOLDER / "adapter_config.json").read_text())
    assert config["modules_to_save"] == ["classifier"]


def test_several_adapters_on_one_base_each_judge_as_they_did(every_kind, images, tmp_path):
    wanted = {}
    for seed, method in enumerate(("lora", "lora")):
        model = trained(copy.deepcopy(every_kind), method, "classifier", images, seed)
        wanted[str(seed)] = model(images)
        save_trained(model, replace(SMALL, method=method), tmp_path / str(seed))
    first, second = (tmp_path / name / ADAPTER_FOLDER for name in wanted)
    loaded = PeftModel.from_pretrained(every_kind, first, adapter_name="0").eval()
    loaded.load_adapter(second, adapter_name="1")
    for name in ("0", "1", "0"):
        loaded.set_adapter(name)
        assert torch.equal(loaded(images), wanted[name])


class Ambiguous(nn.Module):
    """The batch norm's name is the ending of another module's: peft would take both."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.renorm = nn.Conv2d(4, 4, 3)
        self.classifier = nn.Linear(4, 2)

    def forward(self, images):
        return self.classifier(self.renorm(self.norm(self.first(images))).mean((2, 3)))


class Hidden(nn.Module):
    """The batch norm's name is that of a module with a convolution inside, which peft would then leave alone."""

    def __init__(self):
        super().__init__()
        self.part = nn.ModuleDict({"norm": nn.ModuleDict({"mix": nn.Conv2d(3, 4, 3)}), "last": nn.Conv2d(4, 4, 3)})
        self.norm = nn.BatchNorm2d(4)
        self.classifier = nn.Linear(4, 2)

    def forward(self, images):
        x = self.norm(self.part["norm"]["mix"](images))
        return self.classifier(self.part["last"](x).mean((2, 3)))


@pytest.mark.parametrize("kind", [Ambiguous, Hidden])
def test_names_that_peft_would_confuse_are_kept_beside_the_adapter(kind, images, tmp_path):
    torch.manual_seed(0)
    base = kind().eval()
    model = trained(copy.deepcopy(base), "lora", "classifier", images)
    wanted, settings = model(images), replace(SMALL, method="lora")
    save_trained(model, settings, tmp_path)
    assert (tmp_path / STATISTICS_FILE).exists()
    torch.testing.assert_close(load_trained(base, settings, tmp_path).eval()(images), wanted)


class Auxiliary(nn.Module):
    """As torchvision's Inception: a second head, whose name ends in the first one's."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.aux = nn.ModuleDict({"classifier": nn.Linear(4, 2)})
        self.classifier = nn.Linear(4, 2)

    def forward(self, images):
        x = torch.relu(self.norm(self.first(images))).mean((2, 3))
        return self.classifier(x) + self.aux["classifier"](x)


def test_a_second_head_is_saved_as_it_is(images, tmp_path):
    torch.manual_seed(0)
    base = Auxiliary().eval()
    model = trained(copy.deepcopy(base), "lora", "classifier", images)
    save_trained(model, replace(SMALL, method="lora"), tmp_path)
    assert not (tmp_path / STATISTICS_FILE).exists()
    loaded = PeftModel.from_pretrained(copy.deepcopy(base), tmp_path / ADAPTER_FOLDER).eval()
    assert torch.equal(loaded(images), model(images))
    second = loaded.get_base_model().aux["classifier"].modules_to_save["default"]
    assert torch.equal(second.weight, base.aux["classifier"].weight)


def test_runs_of_before_are_still_read(every_kind, images, tmp_path, monkeypatch):
    """Their statistics lie beside the adapter."""
    untouched = copy.deepcopy(every_kind)
    model = trained(every_kind, "lora", "classifier", images)
    monkeypatch.setattr(saved_weights, "_peft_finds", lambda *_: False)
    save_trained(model, replace(SMALL, method="lora"), tmp_path)
    loaded = load_trained(untouched, replace(SMALL, method="lora"), tmp_path).eval()
    torch.testing.assert_close(loaded(images), model(images), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("method", ["filter-subspace", "lora"])
def test_the_cards_own_lines_give_the_recorded_accuracy(method, tmp_path):
    """Independent of how runs are read back here: the card's Python, and the test images judged by it."""
    record = tune(replace(SMALL, method=method), tmp_path, quiet=True)
    card = (tmp_path / ADAPTER_FOLDER / CARD_FILE).read_text()
    code = re.search(r"```python\n(.*?)\n```", card, re.DOTALL).group(1)
    names = {}
    exec(code.replace("FOLDER OF THIS FILE", str(tmp_path / ADAPTER_FOLDER)), names)
    _, split, _ = load_tuned(tmp_path)
    loss, confusion = evaluate(names["model"], DataLoader(split.judged, 200), 10)
    assert loss == pytest.approx(record.metrics["test_loss"], rel=1e-4)
    assert torch.equal(confusion.flatten(), torch.tensor(pd.read_csv(tmp_path / "confusion.csv")["count"].to_numpy()))
    for figure in (record.counts["trainable"], record.counts["head"], record.counts["total"]):
        assert f"{figure:,}" in card
    assert percentage(record.metrics["test_accuracy"], 2) in card
    assert "[More Information Needed]" not in card
    saved = sum(f.stat().st_size for f in (tmp_path / ADAPTER_FOLDER).iterdir() if f.name != CARD_FILE)
    assert record.cost["saved_bytes"] == saved


def test_the_method_is_known_to_peft_where_filtersub_is_imported_after_it():
    code = "import peft, filtersub; print(peft.mapping.PEFT_TYPE_TO_CONFIG_MAPPING['FILTER_SUBSPACE'].__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "FilterSubspaceConfig", done.stderr


@pytest.fixture(scope="module")
def lora_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lora")
    return tune(replace(SMALL, method="lora"), folder, quiet=True), folder


NAMES = ["a|b", "<script>alert(1)", "x`y``z```w", "[here](x)", "*bold* _it_", "two\nlines | a", "$x$ &lt;", "\\", "# a"]


@pytest.mark.parametrize("name", NAMES)
def test_what_users_name_is_shown_as_it_is(name, lora_run):
    """As a reader of Markdown renders it: one cell with these characters, one block of code that is Python."""
    settings = replace(SMALL, method="lora", weights=f"folder/{name}", model=name)
    card = model_card(lora_run[0], settings, (0.5,), (0.5,))
    tokens = MarkdownIt("commonmark").enable("table").parse(card.split("---\n", 2)[2])
    cells = [shown(token.children) for token in tokens if token.type == "inline"]
    assert f"the file {' '.join(name.split())}" in cells
    assert sum(token.type == "tr_open" for token in tokens) == 1 + card.count("\n| ") - 2
    (code,) = [token.content for token in tokens if token.type == "fence"]
    assert ast.parse(code)
    assert repr(name) in code
    assert not any(token.type.startswith("html") for token in tokens)


def shown(children):
    assert {child.type for child in children} <= {"text", "text_special"}, children
    return "".join(child.content for child in children)


def test_the_card_says_how_it_was_trained_and_where_batch_norm_has_its_statistics_from(lora_run):
    record = lora_run[0]
    for batch_norm, note in (("frozen", "keeps the statistics of the base"), ("recomputed", "moved are part of")):
        settings = replace(SMALL, method="lora", batch_norm=batch_norm, head_learning_rate=0.02)
        card = model_card(record, settings, (0.5,), (0.5,))
        assert f"| batch norm | {batch_norm} |" in card
        assert note in card
        assert f"| learning rate | {settings.training.learning_rate:g}, of the head 0.02 |" in card
    settings = replace(SMALL, method="lora", learning_rate="choose")
    chosen = replace(record, choices={"learning_rate": {"chosen": 0.007, "candidates": []}})
    assert "| learning rate | 0.007, of the head 0.003 |" in model_card(chosen, settings, (0.5,), (0.5,))


def test_the_card_of_an_incomplete_adapter_says_so(lora_run):
    card = model_card(lora_run[0], replace(SMALL, method="lora"), (0.5,), (0.5,), complete=False)
    assert "peft alone loads another model than was judged" in card
    assert "load_tuned" in card
    assert "PeftModel" not in card
