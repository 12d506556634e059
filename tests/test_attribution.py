"""Class activation maps against their definition, shares against counting, and the study from settings to sentence."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import external_references
from torch import nn

from filtersub import studies
from filtersub.ablation import run_ablation
from filtersub.ablation.spec import parse_spec
from filtersub.attribution import active_share, first_block, grad_cam
from filtersub.collect import collect
from filtersub.errors import FiltersubError
from filtersub.experiment import TuneSettings
from filtersub.models import load_model
from filtersub.percentages import percentage
from filtersub.plots import activation_maps, active_shares, figure_html
from filtersub.records import read_record
from filtersub.report.studies import study_sections

pytest.importorskip("pytorch_grad_cam", reason="needs the extra 'attribution'")


class Small(nn.Module):
    """Two convolutions and a head: the map's size is the image's, so that nothing is resized."""

    def __init__(self):
        super().__init__()
        self.layer1 = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 5, 3, padding=1)
        self.norm = nn.BatchNorm2d(5)
        self.head = nn.Linear(5, 3)

    def forward(self, images):
        return self.head(torch.relu(self.norm(self.second(torch.relu(self.layer1(images))))).mean((2, 3)))


@pytest.fixture
def small():
    torch.manual_seed(0)
    return Small()


@pytest.fixture
def pictures():
    return torch.randn(5, 3, 10, 10, generator=torch.Generator().manual_seed(1))


def by_definition(model, image, label):
    """ReLU(sum over channels of mean gradient x map), from its smallest to its largest value as 0..1."""
    model.eval()
    maps = model.layer1(image[None]).detach().requires_grad_(True)
    score = model.head(torch.relu(model.norm(model.second(torch.relu(maps)))).mean((2, 3)))[0, label]
    (gradient,) = torch.autograd.grad(score, maps)
    cam = torch.relu((gradient.mean((2, 3), keepdim=True) * maps).sum(1))[0].detach()
    return (cam - cam.min()) / (cam - cam.min()).max()


def test_the_map_is_that_of_the_definition(small, pictures):
    labels = torch.tensor([0, 1, 2, 0, 1])
    found = grad_cam(small, pictures, labels=labels, batch_size=2)
    assert found.shape == (5, 10, 10)
    for image, label, own in zip(pictures, labels, found, strict=True):
        torch.testing.assert_close(own, by_definition(small, image, int(label)), atol=1e-5, rtol=1e-4)


def test_the_predicted_class_is_the_default(small, pictures):
    predicted = small.eval()(pictures).argmax(1)
    torch.testing.assert_close(grad_cam(small, pictures), grad_cam(small, pictures, labels=predicted))


def test_frozen_weights_make_no_empty_map_and_the_model_is_left_alone(small, pictures):
    before = grad_cam(small, pictures)
    small.requires_grad_(False)
    small.head.requires_grad_(True)
    small.train()
    state = {name: value.clone() for name, value in small.state_dict().items()}
    torch.testing.assert_close(grad_cam(small, pictures), before)
    assert float(before.amax((1, 2)).min()) > 0.9
    assert small.training
    assert [name for name, p in small.named_parameters() if p.requires_grad] == ["head.weight", "head.bias"]
    assert all(p.grad is None for p in small.parameters())
    assert all(torch.equal(value, state[name]) for name, value in small.state_dict().items())
    assert not any(module._forward_hooks for module in small.modules())


def test_a_map_that_is_zero_stays_zero(small, pictures):
    nn.init.zeros_(small.head.weight)
    assert float(active_share(grad_cam(small, pictures)).max()) == 0.0


def test_layers_by_name(small, pictures):
    assert first_block(small) == "layer1"
    assert first_block(load_model("resnet18", pretrained=False)) == "layer1"
    assert first_block(load_model("efficientnet_lite0", pretrained=False)) == "blocks.0"
    assert first_block(load_model("convnext_atto", pretrained=False)) == "stages.0"
    assert not torch.equal(grad_cam(small, pictures, layer="second"), grad_cam(small, pictures))
    with pytest.raises(FiltersubError, match="batch_size must be at least 1, got 0"):
        grad_cam(small, pictures, batch_size=0)
    with pytest.raises(FiltersubError, match=r"no layer 'layer9'.*layer1"):
        grad_cam(small, pictures, layer="layer9")
    with pytest.raises(FiltersubError, match="no first block by its usual name in Sequential"):
        first_block(nn.Sequential(nn.Linear(1, 1)))


def test_the_share_counts_pixels():
    maps = torch.linspace(0, 1, 100).view(1, 10, 10)
    assert active_share(maps, 0.75).tolist() == [0.25]
    with pytest.raises(FiltersubError, match="between 0 and 1, got 1"):
        active_share(maps, 1)


def shares(**by_label):
    """A table of 40 images at two seeds; a label's share is its own number, with noise of 0.01 by image."""
    noise = np.random.default_rng(0).normal(0, 0.01, 40)
    rows = [
        {"label": label, "seed": seed, "images": "digits", "image": image, "threshold": 0.5, "share": value + extra}
        for label, values in by_label.items()
        for seed, value in enumerate(values)
        for image, extra in enumerate(noise)
    ]
    return pd.DataFrame(rows)


def test_intervals_are_over_images_and_differences_are_paired():
    table = shares(lora=(0.20, 0.22), atoms=(0.30, 0.34), more=(0.32, 0.32))
    summary = studies.share_table(table).set_index("label")
    assert summary.loc["lora", ["lowest_seed", "highest_seed"]].tolist() == pytest.approx(
        [0.2, 0.22], abs=abs(shares(x=(0.0,))["share"].mean()) + 1e-9
    )
    assert summary.loc["atoms", "low"] < summary.loc["atoms", "share"] < summary.loc["atoms", "high"]
    assert summary.loc["atoms", "high"] - summary.loc["atoms", "low"] < 4 * 0.01 / 40**0.5 * 1.5
    gaps = studies.difference_table(table)
    assert gaps["label"].tolist() == ["atoms", "more"]
    assert gaps["difference"].tolist() == pytest.approx([0.11, 0.0], abs=1e-9)
    # the noise is of the images, so it cancels between labels: paired intervals have no width here
    assert gaps[["low", "high"]].to_numpy().ravel().tolist() == pytest.approx([0.11, 0.11, 0, 0], abs=1e-9)
    words = studies.attribution_sentence(summary.reset_index(), gaps, "digits", 0.5)
    assert "over 40 images of digits" in words
    assert "atoms is larger than that of lora by 11.0 points (+11.0 to +11.0), at every seed alike" in words


def test_a_difference_that_seeds_do_not_share_is_said():
    table = shares(lora=(0.20, 0.20), atoms=(0.30, 0.15), more=(0.30, 0.15))
    words = studies.attribution_sentence(
        studies.share_table(table), studies.difference_table(table).round(9), "digits", 0.5
    )
    assert "but seeds differ, from \N{MINUS SIGN}5.0 to +10.0" in words
    assert "The images do not tell atoms and more apart" in words


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("attribution")
    common = {"epochs": 1, "image_size": 32, "batch_size": 50, "n_train": 100, "layers": "conv_stem", "solver": "pca"}
    runs = [TuneSettings(**common, method="linear"), TuneSettings(**common, atoms=4)]
    seen = []
    options = {"seeds": [0], "n_images": 12, "n_photographs": 6, "thresholds": [0.3, 0.5], "shown": 2}
    studies.attribution_study(root / "study", runs, **options, on_run=lambda *given: seen.append(given))
    return root, seen


def test_the_study_holds_every_share(study):
    root, seen = study
    record, tables = read_record(root / "study"), studies.study_tables(root / "study")
    assert seen == [(1, 2, "linear probing"), (2, 2, "atoms m=4, pca codes")]
    assert record.parameters["layer"] == "blocks.0"
    assert record.parameters["threshold"] == 0.5
    assert len(tables["shares"]) == 2 * 2 * (12 + 6)
    assert tables["shares"]["share"].between(0, 1).all()
    assert len(tables["maps"]) == 2 * 2 * 32 * 32
    told = tables["summary"].query("images == 'digits' and threshold == 0.5").set_index("label")["share"]
    assert record.metrics == {f"active_share: {label}": pytest.approx(share) for label, share in told.items()}
    wider = tables["summary"].pivot_table(index=["images", "label"], columns="threshold", values="share")
    assert (wider[0.3] >= wider[0.5]).all()


def test_the_report_tells_the_study(study):
    root, _ = study
    (section,) = study_sections(collect(root))
    tables = studies.study_tables(root / "study")
    assert section.text == studies.attribution_sentence(tables["summary"], tables["differences"], "digits", 0.5)
    assert len(section.rows) == len(tables["summary"]) == 8
    for draw, caption in section.figures:
        assert "<svg" in figure_html(draw(width=6.0), caption)


def test_the_figures_show_every_label(study):
    tables = studies.study_tables(study[0] / "study")
    maps = activation_maps(tables["maps"], 0.5)
    assert [ax.get_title() for ax in maps.axes[:3]] == ["image", "linear probing", "atoms m=4, pca codes"]
    panels = active_shares(tables["summary"]).axes
    assert [text.get_text() for text in panels[0].get_yticklabels()] == ["atoms m=4, pca codes", "linear probing"]


def test_settings_that_do_not_compare_are_refused(tmp_path):
    one = TuneSettings(epochs=1)
    for runs, message in (
        ([], "runs is empty; it must name at least one"),
        ([one, one], "two runs are both called 'atoms m=9'"),
        ([one, TuneSettings(method="linear", image_size=32)], "one image size"),
    ):
        with pytest.raises(FiltersubError, match=message):
            studies.attribution_study(tmp_path, runs)
    with pytest.raises(FiltersubError, match="thresholds must be between 0 and 1, got 1"):
        studies.attribution_study(tmp_path, [one], thresholds=[1.0])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.notebook
@pytest.mark.usefixtures("shared_warm_process")
def test_the_notebook_runs(tmp_path):
    few = {"n_train": 100}
    methods = [{"method": "lora", "rank": 2, **few}, {"method": "filter-subspace", "atoms": 4, "solver": "pca", **few}]
    parameters = {"methods": methods, "epochs": 1, "image_size": 32, "batch_size": 50, "n_images": 8}
    parameters |= {"seeds": [0], "n_photographs": 3, "thresholds": [0.5], "shown": 1}
    stages = [{"notebook": "08_attribution", "parameters": parameters}]
    spec = parse_spec({"name": "tiny", "title": "Tiny", "question": "Does it run?", "stages": stages})
    summary = run_ablation(spec, tmp_path)
    assert {path.parent.name: path.read_text() for path in tmp_path.rglob("error.txt")} == {}
    assert summary.exit_code == 0
    (page,) = tmp_path.rglob("notebook.html")
    assert external_references(page.read_text()) == []
    (record,) = collect(tmp_path).of_kind("attribution").values()
    assert f"LoRA r=2 {percentage(record.metrics['active_share: LoRA r=2'])}" in page.read_text()
