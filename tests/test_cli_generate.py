"""generate-tune, generate and distance as a user meets them: every setting reachable, what was tuned drawn again."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import MISSING, fields

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_pipeline import save_classes, save_encoder, save_pipeline
from typer.main import get_command
from typer.testing import CliRunner

from filtersub.cli import app
from filtersub.errors import FiltersubError
from filtersub.generation.diffusion_run import DiffusionSettings
from filtersub.metrics import compare, encoder_features, image_folder
from filtersub.records import read_record


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    return save_pipeline(tmp_path_factory.mktemp("sd"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return save_classes(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return save_encoder(tmp_path_factory.mktemp("vit"))


def run(*arguments):
    """What the command prints; errors are raised as they are."""
    found = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found


TINY = ("--atoms", 2, "--block", 2, "--steps", 2, "--batch-size", 2, "--image-size", 16, "--images", 0)
TINY += ("--sampling-steps", 2, "--mixed-precision", "no")


def pixels(folder):
    return np.stack([np.asarray(Image.open(file)).astype(int) for file in sorted(folder.glob("*.png"))])


def test_every_setting_is_an_option_with_the_same_default():
    options = {option.name: option for option in get_command(app).commands["generate-tune"].params}
    for field in fields(DiffusionSettings.FLAT):
        assert field.name in options, field.name
        if field.default is not MISSING:
            default = options[field.name].default
            assert (getattr(default, "value", default) or None) == (field.default or None), field.name


def test_options_reach_the_record(stored, data, tmp_path):
    asked = {"solver": "lasso", "warmup_steps": 1, "checkpoint_every": 1, "preview_every": 1, "weight_decay": 0.0}
    asked |= {"schedule": "cosine", "condition_dropout": 0.5, "sampling_batch": 3, "reference_images": 7}
    asked |= {"optimizer": "soap", "min_rate": 1e-6, "warmup_rate": 1e-5, "clip_norm": 0.5, "l1_penalty": 1e-2}
    options = [part for name, value in asked.items() for part in (f"--{name.replace('_', '-')}", value)]
    run("generate-tune", stored, "--data", data, "--out", tmp_path / "run", *TINY, "--flip", *options)
    recorded = read_record(tmp_path / "run").parameters
    assert {name: recorded[name] for name in asked} == asked
    assert recorded["flip"] is True
    assert read_record(tmp_path / "run").label.endswith(", SOAP")
    assert recorded["sampling_steps"] == 2
    assert sorted(file.name for file in (tmp_path / "run" / "previews").glob("*.png")) == ["step-1.png", "step-2.png"]


@pytest.mark.parametrize("method", ["filter-subspace", "full"])
def test_generate_draws_what_the_run_drew(stored, data, tmp_path, method):
    """From the adapter, or the UNet of full tuning, the images are those of the run: same prompts, same noise."""
    run(
        "generate-tune", stored, "--data", data, "--out", tmp_path / "run", *TINY, "--method", method,
        "--learning-rate", 0.05,
    )  # fmt: skip
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(["a photo of a bright square"] * 8 + ["a photo of a dark square"] * 8))
    drawing = ("generate", stored, "--prompts", prompts, "--image-size", 16, "--steps", 2, "--device", "cpu")
    run(*drawing, "--out", tmp_path / "tuned", "--adapter", tmp_path / "run" / "adapter")
    run(*drawing, "--out", tmp_path / "base")
    expected = pixels(tmp_path / "run" / "images")
    assert np.abs(pixels(tmp_path / "tuned") - expected).max() <= 1  # coefficients are decomposed again: rounding
    assert np.abs(pixels(tmp_path / "base") - expected).max() > 1
    with pytest.raises(FiltersubError, match="holds samples of other settings"):
        run(*drawing, "--out", tmp_path / "tuned")


def test_a_pipeline_is_taken_from_the_hub_s_local_cache_by_its_name(stored, tmp_path):
    commit, home = "0" * 40, tmp_path / "hub" / "models--someone--tiny-sd"
    shutil.copytree(stored, home / "snapshots" / commit)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    (tmp_path / "prompts.txt").write_text("a square")
    arguments = ["someone/tiny-sd", "--prompts", tmp_path / "prompts.txt", "--out", tmp_path / "drawn"]
    command = [sys.executable, "-m", "filtersub", "generate", *arguments, "--image-size", 16, "--steps", 2]
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_HUB_CACHE", None)
    done = subprocess.run([*map(str, command)], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    run("generate", stored, *arguments[1:-1], tmp_path / "folder", "--image-size", 16, "--steps", 2)
    assert (tmp_path / "drawn" / "00000.png").read_bytes() == (tmp_path / "folder" / "00000.png").read_bytes()


def test_tuned_networks_that_do_not_fit_are_one_error(stored, data, tmp_path):
    (tmp_path / "prompts.txt").write_text("a")
    other = save_pipeline(tmp_path / "other", latents=8)
    damaged = save_pipeline(tmp_path / "damaged") / "unet"
    (damaged / "diffusion_pytorch_model.safetensors").write_bytes(b"no weights")
    bare = save_pipeline(tmp_path / "bare") / "unet"
    (bare / "diffusion_pytorch_model.safetensors").unlink()
    for folder, message in (
        (other / "unet", r"does not fit this UNet: conv_in\.weight is \(16, 8, 3, 3\) there, \(16, 4, 3, 3\) here"),
        (damaged, "cannot be read"),
        (bare, "is no UNet: diffusion_pytorch_model.safetensors missing"),
        (tmp_path, "is no adapter"),
    ):
        with pytest.raises(FiltersubError, match=message):
            run("generate", stored, "--prompts", tmp_path / "prompts.txt", "--out", tmp_path / "x", "--adapter", folder)


def test_distance_keeps_the_statistics_of_the_real_images(data, encoder, tmp_path):
    """A second call reads them, and the numbers stay; progress goes to standard error alone."""
    arguments = ("distance", data / "bright_square", data / "dark_square", "--features", encoder, "--device", "cpu")
    cached = (*arguments, "--cache", tmp_path / "cache", "--batch-size", 4)
    first, second = run(*cached), run(*cached)
    (kept,) = (tmp_path / "cache").glob("vit-4-*.safetensors")
    found = compare(image_folder(data / "bright_square"), image_folder(data / "dark_square"), encoder_features(encoder))
    assert first.stdout == second.stdout == f"{found.sentence}\n"
    assert f"{data / 'bright_square'}: 4 of 6" in first.stderr
    assert f"{data / 'bright_square'}" not in second.stderr  # nothing of it was computed
    assert f"{data / 'dark_square'}: 6 of 6" in second.stderr
    assert json.loads(run(*arguments, "--json").stdout) == json.loads(json.dumps(found.as_dict()))
    kept.write_bytes(b"damaged")
    with pytest.raises(FiltersubError, match="holds no statistics of features"):
        run(*cached)


def test_distance_compares_with_the_listed_images(data, encoder, tmp_path):
    (tmp_path / "real").mkdir()
    for source in sorted(data.rglob("*.png")):
        source_class, name = source.parts[-2:]
        (tmp_path / "real" / f"{source_class}-{name}").write_bytes(source.read_bytes())
    listed = [f"dark_square-{place}.png" for place in range(5)]
    lines = [json.dumps({"file_name": name, "text": "x"}) for name in listed]
    (tmp_path / "real" / "metadata.jsonl").write_text("\n".join(lines))
    found = run("distance", tmp_path / "real", data / "bright_square", "--features", encoder, "--json")
    assert json.loads(found.stdout)["real_images"] == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "cuda:99"], "the device 'cuda:99' cannot be used"),
        (["--device", "abacus"], "the device 'abacus' cannot be used"),
        (["--features", "nowhere"], "no folder of a model at nowhere"),
        (["--feature-weights", "nowhere.pth"], "FID needs the Inception weights"),
    ],
)
def test_bad_input_of_distance_is_one_line(data, arguments, message):
    with pytest.raises(FiltersubError, match=message) as error:
        run("distance", data, data, *arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--solver", "guess"], "guess"),
        (["--warmup-steps", -1], "warmup_steps must not be negative"),
        (["--checkpoint-every", 0], "checkpoint_every must be at least 1"),
        (["--preview-every", -1], "preview_every must not be negative"),
        (["--sampling-steps", 0], "sampling_steps must be at least 1"),
        (["--block", -4], "block"),
        (["--learning-rate", "nan"], "learning_rate must be a positive number"),
        (["--schedule", "linear"], "unknown schedule 'linear'; known: cosine, constant"),
        (["--layers", "nowhere", "--features", "none"], "no layer matches"),
        (["--method", "lora", "--rank", 9_999, "--features", "none"], "rank 9999 is more than any layer has"),
    ],
)
def test_bad_input_of_generate_tune_is_one_line(stored, data, tmp_path, arguments, message):
    with pytest.raises(FiltersubError, match=message) as error:
        run("generate-tune", stored, "--data", data, "--out", tmp_path / "run", *arguments)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_the_gpu_is_taken_where_there_is_one():
    from filtersub.cli.options import chosen_device

    assert chosen_device(None).type == ("cuda" if torch.cuda.is_available() else "cpu")
