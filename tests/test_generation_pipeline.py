"""Stable Diffusion in small, in the on-disk form of the real one: loaded, tuned, saved, switched, drawn; bad input."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from diffusers import EulerAncestralDiscreteScheduler, StableDiffusionPipeline
from peft import PeftModel
from PIL import Image
from safetensors.torch import save_file
from tiny_pipeline import save_classes, save_encoder, save_pipeline

from filtersub.errors import FiltersubError
from filtersub.generation import MethodSettings, inject_method, load_adapter, save_adapter, use_adapter
from filtersub.generation.captions import captioned_images, read_prompts
from filtersub.generation.diffusion_run import DiffusionSettings, diffusion_run, table_runs
from filtersub.generation.pipeline import encode_images, load_pipeline
from filtersub.generation.sampling import grid, sample_images
from filtersub.generation.tuned import load_tuned, save_tuned
from filtersub.paper import READINGS, find_part
from filtersub.processes import LOG_WITH
from filtersub.records import read_table

SMALL = MethodSettings(atoms=2, block=2)
LINEAR = MethodSettings(atoms=2, block=2, solver="pca")


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    return save_pipeline(tmp_path_factory.mktemp("sd"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return save_classes(tmp_path_factory.mktemp("data"))


@pytest.fixture
def pipeline(stored):
    return load_pipeline(stored)


def small_settings(stored, data, **changes):
    given = {
        "atoms": 2,
        "block": 2,
        "steps": 3,
        "batch_size": 4,
        "image_size": 16,
        "images": 5,
        "sampling_steps": 2,
        "features": "none",
    }
    given |= {"preview_every": 2, "checkpoint_every": 2, "mixed_precision": "no"}
    return DiffusionSettings(pipeline=str(stored), data=str(data), **{**given, **changes})


def noise_of(unet, seed=0, dtype=torch.float32):
    """What the UNet predicts at one point."""
    random = torch.Generator().manual_seed(seed)
    latents, text = torch.randn(1, 4, 8, 8, generator=random), torch.randn(1, 16, 16, generator=random)
    with torch.no_grad():
        return unet.eval()(latents.to(dtype), 10, encoder_hidden_states=text.to(dtype)).sample


def tuned_adapter(stored, folder, seed, settings=SMALL):
    """An adapter with weights of its own, saved; what the network predicts with it, and without."""
    unet = load_pipeline(stored).unet
    before = noise_of(unet)
    inject_method(unet, settings)
    assert torch.equal(noise_of(unet), before)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in unet.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    save_adapter(unet, folder)
    return noise_of(unet), before


def test_an_adapter_loads_into_any_pipeline_in_three_lines(stored, tmp_path):
    expected, before = tuned_adapter(stored, tmp_path / "adapter", 1)
    pipeline = StableDiffusionPipeline.from_pretrained(stored, safety_checker=None)
    load_adapter(pipeline, tmp_path / "adapter")
    torch.testing.assert_close(noise_of(pipeline.unet), expected)
    assert not torch.allclose(expected, before)
    size = (tmp_path / "adapter" / "adapter_model.safetensors").stat().st_size
    unet = (stored / "unet" / "diffusion_pytorch_model.safetensors").stat().st_size
    assert size < unet / 2
    wrapped = PeftModel.from_pretrained(load_pipeline(stored).unet, tmp_path / "adapter")  # peft's own way
    torch.testing.assert_close(noise_of(wrapped), expected)


def test_loralib_s_factors_draw_as_they_were_trained(stored, pipeline, tmp_path):
    unet = load_pipeline(stored).unet
    before = noise_of(unet)
    inject_method(unet, MethodSettings(method="lora-loralib", rank=2))
    assert torch.equal(noise_of(unet), before)
    trained = {name: parameter for name, parameter in unet.named_parameters() if parameter.requires_grad}
    assert {name.rpartition(".")[2] for name in trained} == {"lora_A", "lora_B"}
    with torch.no_grad():
        for parameter in trained.values():
            parameter += 0.05 * torch.randn_like(parameter)
    size = save_tuned(unet, "lora-loralib", tmp_path / "factors")
    assert size > 4 * sum(parameter.numel() for parameter in trained.values())
    load_tuned(pipeline, tmp_path / "factors")
    torch.testing.assert_close(noise_of(pipeline.unet), noise_of(unet))
    assert not torch.allclose(noise_of(pipeline.unet), before)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("another layer", "no layer 'nowhere'"),
        ("one factor", "no layer 'conv_out' with both factors"),
        ("another shape", r"conv_out is \(4, 16, 3, 3\), not \(7, 3\) x \(3, 48\)"),
        ("no safetensors", "is a text, which is not read as weights"),
    ],
)
def test_factors_that_do_not_fit_change_nothing(pipeline, damage, told, tmp_path):
    before = noise_of(pipeline.unet)
    factors = {"conv_in.lora_A": torch.ones(3, 12), "conv_in.lora_B": torch.ones(48, 3)}
    factors |= {"conv_out.lora_A": torch.ones(3, 48), "conv_out.lora_B": torch.ones(12, 3)}
    if damage == "another layer":
        factors = {name.replace("conv_out", "nowhere"): factor for name, factor in factors.items()}
    elif damage == "one factor":
        del factors["conv_out.lora_B"]
    elif damage == "another shape":
        factors["conv_out.lora_B"] = torch.ones(7, 3)
    file = tmp_path / "loralib.safetensors"
    save_file(factors, file)
    if damage == "no safetensors":
        file.write_bytes(b"nothing")
    with pytest.raises(FiltersubError, match=told):
        load_tuned(pipeline, tmp_path)
    assert torch.equal(noise_of(pipeline.unet), before)


@pytest.mark.parametrize("reading", READINGS)
def test_a_reading_says_what_the_rows_of_table_3_train(stored, data, reading, tmp_path):
    """Counts by hand: loralib's factors are r k (c_in k + c_out k) a layer, m k_c^2 atoms of k_c^2 k^2 entries."""
    shutil.copytree(data, tmp_path / "table3" / "flowers")
    small = small_settings(stored, data, rank=2).parameters
    names = ("steps", "batch_size", "image_size", "images", "sampling_steps", "features", "mixed_precision")
    settings = {name: small[name] for name in (*names, "atoms", "block", "rank")}
    places = {"pipeline": str(stored), "data_dir": tmp_path / "table3"}
    made = table_runs(tmp_path / "out", **places, reading=reading, methods=("lora", "filter-subspace"), **settings)
    lora, atoms = made.values()
    assert (lora.parameters["method"], atoms.parameters["limit_atoms"]) == ("lora-loralib", reading == "text")
    rules, unet = find_part("table3").readings[reading].rules, load_pipeline(stored).unet
    kinds = (torch.nn.Conv2d, torch.nn.Linear)
    weights = {name: module.weight for name, module in unet.named_modules() if isinstance(module, kinds)}
    taken = {
        run: [w for n, w in weights.items() if re.match(rules[run]["layers"].value, n)] for run in ("lora", "atoms")
    }
    sides = [(*w.shape[:2], w.shape[2] if w.ndim == 4 else 1) for w in taken["lora"]]
    assert lora.counts["trainable"] == sum(2 * k * (c_in * k + c_out * k) for c_out, c_in, k in sides)
    rows = [(w.shape[0] * w.shape[1] // 4, w.shape[2]) for w in taken["atoms"]]
    most = [min(8, n) if reading == "text" else 8 for n, _ in rows]
    assert atoms.counts["trainable"] == sum(m * 4 * k * k for m, (_, k) in zip(most, rows, strict=True))
    loaded = load_pipeline(stored)
    load_tuned(loaded, next(iter(made)) / "adapter")
    assert not torch.equal(noise_of(loaded.unet), noise_of(unet))


@pytest.mark.parametrize("second", [SMALL, MethodSettings(method="lora", rank=2)], ids=["atoms", "lora"])
def test_several_adapters_switch_on_one_pipeline(stored, pipeline, second, tmp_path):
    one, before = tuned_adapter(stored, tmp_path / "one", 1)
    two, _ = tuned_adapter(stored, tmp_path / "two", 2, second)
    load_adapter(pipeline, tmp_path / "one", "one")
    if second.method == "lora":  # peft keeps one tuner a layer, so another method goes on another pipeline
        pipeline = load_pipeline(stored)
        load_adapter(pipeline, tmp_path / "two", "two")
        torch.testing.assert_close(noise_of(pipeline.unet), two)
        use_adapter(pipeline, None)
        torch.testing.assert_close(noise_of(pipeline.unet), before)
        return
    load_adapter(pipeline, tmp_path / "two", "two")
    for names, expected in (("one", one), ("two", two), (None, before), ("one", one)):
        use_adapter(pipeline, names)
        torch.testing.assert_close(noise_of(pipeline.unet), expected)
    use_adapter(pipeline, ["one", "two"])
    both = noise_of(pipeline.unet)
    assert not torch.allclose(both, one)
    assert not torch.allclose(both, two)
    pipeline.unet.disable_adapters()  # diffusers' own
    torch.testing.assert_close(noise_of(pipeline.unet), before)


def test_adapters_that_do_not_belong_are_refused(stored, pipeline, tmp_path):
    tuned_adapter(stored, tmp_path / "adapter", 1)
    other = load_pipeline(save_pipeline(tmp_path / "other", seed=5))
    with pytest.raises(FiltersubError, match="base weights it was trained on"):
        load_adapter(other, tmp_path / "adapter")
    with pytest.raises(FiltersubError, match=r"no adapter: adapter_config\.json, adapter_model\.safetensors missing"):
        load_adapter(pipeline, tmp_path / "nothing")
    load_adapter(pipeline, tmp_path / "adapter", "one")
    with pytest.raises(FiltersubError, match="an adapter 'one' already"):
        load_adapter(pipeline, tmp_path / "adapter", "one")
    with pytest.raises(FiltersubError, match="unknown adapter 'two'; known: one"):
        use_adapter(pipeline, "two")


def test_a_whole_run_for_every_method(stored, data, tmp_path):
    """Latents cached once, three steps, samples, adapter, record; what is drawn differs and starts alike."""
    saved = {}
    for method in ("none", "filter-subspace", "lora", "full"):
        settings = small_settings(stored, data, method=method, rank=2, learning_rate=1e-2)
        record = diffusion_run(settings, tmp_path / method)
        assert record.kind == "generation"
        assert record.environment["data"] == data.name
        assert (record.counts["trainable"] > 0) == (method != "none")
        assert (tmp_path / method / "samples.png").is_file()
        assert len(list((tmp_path / method / "images").glob("*.png"))) == 16
        assert diffusion_run(settings, tmp_path / method) == record
        saved[method] = record.cost["saved_bytes"]
    assert len(list((tmp_path / "cache").glob("latents-*.safetensors"))) == 1
    assert saved["none"] == 0 < saved["filter-subspace"] < saved["full"]
    assert (tmp_path / "lora" / "previews" / "step-2.png").is_file()
    assert len({path.stat().st_mode for path in tmp_path.rglob("*") if path.is_file()}) == 1
    first = {method: (tmp_path / method / "images" / "00000.png").read_bytes() for method in saved}
    assert len(set(first.values())) > 1
    with pytest.raises(FiltersubError, match="record of another run"):
        diffusion_run(small_settings(stored, data, method="none", seed=1), tmp_path / "none")


def test_a_longer_run_does_not_keep_the_images_of_a_shorter_one(stored, data, tmp_path):
    """Interrupted while it drew, then asked for more steps: the images that are there are of another network."""
    diffusion_run(small_settings(stored, data, steps=2, images=0), tmp_path / "run")
    (tmp_path / "run" / "record.json").unlink()
    with pytest.raises(FiltersubError, match="images holds samples of other settings"):
        diffusion_run(small_settings(stored, data, steps=4, images=0), tmp_path / "run")


def test_a_generative_run_logs_each_step_to_a_tracker(stored, data, tmp_path, monkeypatch):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard")
    settings = small_settings(stored, data, steps=2, images=0)
    record = diffusion_run(settings, tmp_path / "run", log_with="tensorboard")
    found = events.EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    history = read_table(tmp_path / "run" / "history.csv")
    points = found.Scalars("loss/train")
    assert [point.step for point in points] == [1, 2]
    assert [point.value for point in points] == pytest.approx(history["loss"].tolist())
    assert found.Scalars("train_loss")[-1].value == pytest.approx(record.metrics["train_loss"])
    monkeypatch.setenv(LOG_WITH, "wanbd")
    with pytest.raises(FiltersubError, match="unknown tracker 'wanbd'; did you mean 'wandb'"):
        diffusion_run(settings, tmp_path / "other")
    assert not (tmp_path / "other" / "adapter").exists()


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return save_encoder(tmp_path_factory.mktemp("vit"))


def list_images(folder, names):
    """Puts only these images into the folder's metadata.jsonl."""
    lines = [json.dumps({"file_name": name, "text": "night"}) for name in names]
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")


def test_the_run_is_judged_in_features_of_a_local_model(stored, data, encoder, tmp_path):
    settings = small_settings(stored, data, method="none", images=8, features=str(encoder))
    record = diffusion_run(settings, tmp_path / "run")
    assert record.environment["distance_name"] == "vit-4 Fréchet distance"
    assert record.metrics["frechet"] > record.metrics["floor_frechet"] > 0
    assert (record.environment["images"], record.environment["real_images"]) == (16, 12)


def test_the_run_is_judged_beside_the_images_that_are_listed_alone(stored, data, encoder, tmp_path):
    """A folder of 12 images that lists 6 of them is the same data as a folder that holds those 6 alone."""
    distances = {}
    for name in ("listed", "alone"):
        folder = tmp_path / name
        shutil.copytree(data, folder)
        if name == "alone":
            shutil.rmtree(folder / "bright_square")
        list_images(folder, [f"dark_square/{place}.png" for place in range(6)])
        settings = small_settings(stored, folder, method="none", images=8, features=str(encoder))
        record = diffusion_run(settings, tmp_path / f"run-{name}" / "none")
        assert record.environment["real_images"] == 6
        distances[name] = record.metrics["frechet"]
    assert distances["listed"] == distances["alone"]


@pytest.mark.parametrize("few", ["listed", "asked for"])
def test_too_few_real_images_are_known_before_training(stored, data, encoder, tmp_path, few):
    shutil.copytree(data, tmp_path / "data")
    if few == "listed":
        list_images(tmp_path / "data", ["dark_square/0.png"] * 9)
    asked = {} if few == "listed" else {"reference_images": 1}
    told = []
    with pytest.raises(FiltersubError, match="gives 1 image to compare; a distance needs at least 4"):
        diffusion_run(
            small_settings(stored, tmp_path / "data", features=str(encoder), **asked),
            tmp_path / "run",
            on_progress=lambda *row: told.append(row),
        )
    assert told == []
    assert not (tmp_path / "run").exists()


def test_latents_are_those_of_the_vae_and_are_cached(pipeline, data, tmp_path):
    captioned = captioned_images(data)
    first = encode_images(pipeline, captioned, size=16, cache=tmp_path)
    assert first.means.shape == (12, 4, 8, 8)
    assert first.prompts.tolist() == [1] * 6 + [2] * 6
    assert first.embeddings.shape == (3, 16, 16)
    assert bool((first.deviations > 0).all())
    expected, _ = pipeline.encode_prompt("a photo of a dark square", "cpu", 1, False)
    torch.testing.assert_close(first.embeddings[2], expected[0])
    pipeline.vae.encode = None  # a second call must not need it
    again = encode_images(pipeline, captioned, size=16, cache=tmp_path)
    for one, other in zip(vars(first).values(), vars(again).values(), strict=True):
        assert torch.equal(one, other)
        assert one.stride() == other.stride()  # or an interrupted run would round otherwise than a whole one
    with pytest.raises(FiltersubError, match="multiple of 2"):
        encode_images(pipeline, captioned, size=17)


def test_samples_start_from_the_same_noise_in_any_batch_and_resume(pipeline, tmp_path):
    prompts = ["a b", "c d", "e f"]
    options = {"size": 16, "steps": 2, "seed": 3}
    sample_images(pipeline, prompts, tmp_path / "ones", batch_size=1, **options)
    sample_images(pipeline, prompts, tmp_path / "all", batch_size=3, **options)
    files = [sorted((tmp_path / name).glob("*.png")) for name in ("ones", "all")]
    for one, other in zip(*files, strict=True):
        assert one.read_bytes() == other.read_bytes()
    kept = files[0][1].read_bytes()
    files[0][1].unlink()
    drawn = []
    sample_images(pipeline, prompts, tmp_path / "ones", **options, on_image=lambda n, total: drawn.append((n, total)))
    assert drawn == [(3, 3)]
    assert files[0][1].read_bytes() == kept
    with pytest.raises(FiltersubError, match="samples of other settings"):
        sample_images(pipeline, prompts, tmp_path / "ones", size=16, steps=2, seed=4)


def test_samplers_that_add_noise_do_so_by_image_too(pipeline, tmp_path):
    pipeline.scheduler = EulerAncestralDiscreteScheduler.from_config(pipeline.scheduler.config)
    for name, size in (("ones", 1), ("all", 3)):
        sample_images(pipeline, ["a b", "c d", "e f"], tmp_path / name, size=16, steps=3, seed=3, batch_size=size)
    files = [sorted((tmp_path / name).glob("*.png")) for name in ("ones", "all")]
    images = [[np.asarray(Image.open(file)).astype(int) for file in group] for group in files]
    for one, other in zip(*images, strict=True):  # convolutions over several images sum in another order
        assert np.abs(one - other).max() <= 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_an_adapter_trained_in_float32_loads_into_half_precision(stored, tmp_path, dtype):
    wanted, plain = tuned_adapter(stored, tmp_path / "adapter", seed=1, settings=LINEAR)
    half = load_pipeline(stored, dtype=dtype)
    load_adapter(half, tmp_path / "adapter")
    found = noise_of(half.unet, dtype=dtype).float()
    assert (wanted - plain).norm() > 4 * (found - wanted).norm()  # the update is there; what is left is rounding
    other = load_pipeline(save_pipeline(tmp_path / "other", seed=9), dtype=dtype)
    with pytest.raises(FiltersubError, match="fingerprints differ"):
        load_adapter(other, tmp_path / "adapter")


def test_precisions_follow_each_other_in_one_process(stored, data, tmp_path):
    for number, precision in enumerate(("no", "bf16", "no")):
        settings = small_settings(stored, data, mixed_precision=precision, images=0)
        record = diffusion_run(settings, tmp_path / f"run-{number}")
        assert record.environment["mixed_precision"] == precision
        assert np.isfinite(record.metrics["train_loss"])
    if not torch.cuda.is_available():
        with pytest.raises(FiltersubError, match="fp16 needs a GPU"):
            diffusion_run(small_settings(stored, data, mixed_precision="fp16", images=0), tmp_path / "half")


def test_checkpointed_activations_change_nothing(stored, data, tmp_path):
    losses = {}
    for saving in (False, True):
        settings = small_settings(stored, data, gradient_checkpointing=saving, images=0)
        losses[saving] = diffusion_run(settings, tmp_path / str(saving)).metrics["train_loss"]
    assert losses[True] == pytest.approx(losses[False], rel=1e-6)


def test_attention_layers_are_an_option(stored, data, tmp_path):
    counts = {
        layers: diffusion_run(small_settings(stored, data, layers=layers, images=0), tmp_path / layers).counts
        for layers in ("resnets", "attention", "blocks")
    }
    assert 0 < counts["attention"]["trainable"] < counts["blocks"]["trainable"]
    assert counts["resnets"]["trainable"] > 0


SCRIPT = """
import json, pathlib, sys
from accelerate import PartialState
from filtersub.generation.diffusion_run import DiffusionSettings, diffusion_run

stored, data, out = sys.argv[1:]
settings = DiffusionSettings(
    pipeline=stored, data=data, atoms=2, block=2, image_size=16, steps=3, batch_size=4, mixed_precision="no",
    images=4, sampling_steps=2, features="none", preview_every=2, learning_rate=1e-2,
)
told = set()
record = diffusion_run(settings, out, on_progress=lambda what, done, total: told.add(what))
said = {"told": sorted(told), "loss": record.metrics["train_loss"]}
pathlib.Path(out).with_name(f"said-{PartialState().process_index}.json").write_text(json.dumps(said))
"""


@pytest.mark.slow  # three processes
def test_of_several_processes_the_first_draws_and_writes(stored, data, run_code, launched, tmp_path):
    torchrun = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    variables = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}

    def pair(*arguments):
        return launched(torchrun, "-c", SCRIPT, *arguments)

    def alone(*arguments):
        return run_code(SCRIPT, *arguments, **variables)

    said = {}
    for name, call in (("pair", pair), ("alone", alone)):
        done = call(stored, data, tmp_path / name / "run")
        assert done.returncode == 0, done.stderr[-2000:]
        said[name] = [json.loads(file.read_text()) for file in sorted((tmp_path / name).glob("said-*.json"))]
        assert len(list((tmp_path / name / "run" / "images").glob("*.png"))) == 16
    first, second = said["pair"]
    assert "drawing" in first["told"]
    assert "drawing" not in second["told"]
    losses = [each["loss"] for each in (first, second, *said["alone"])]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)  # float32 sums in another order


def test_grids_read_row_by_row():
    images = torch.arange(3, dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 1, 2, 2)
    assert grid(images, columns=2)[0, ::2, ::2].tolist() == [[0, 1], [2, 255]]
    assert grid(images, columns=4)[0, ::2, ::2].tolist() == [[0, 1, 2, 255]]


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.safetensors"),
        ("vae/config.json", "vae/config.json"),
        ("tokenizer/tokenizer_config.json", "tokenizer/tokenizer_config.json"),
        ("model_index.json", "model_index.json is missing"),
    ],
)
def test_missing_parts_are_named(stored, tmp_path, part, message):
    shutil.copytree(stored, tmp_path / "sd")
    (tmp_path / "sd" / part).unlink()
    with pytest.raises(FiltersubError) as error:
        load_pipeline(tmp_path / "sd")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_damaged_and_unfitting_parts_are_named(stored, tmp_path):
    shutil.copytree(stored, tmp_path / "sd")
    (tmp_path / "sd" / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"no weights")
    with pytest.raises(FiltersubError, match="no pipeline could be loaded"):
        load_pipeline(tmp_path / "sd")
    with pytest.raises(FiltersubError, match="takes 8 latent channels, the VAE gives 4"):
        load_pipeline(save_pipeline(tmp_path / "eight", latents=8))
    with pytest.raises(FiltersubError, match="or fetch it into the cache first: hf download nobody/"):
        load_pipeline("nobody/nothing-of-this-name")


def test_prompts_come_from_classes_or_a_file(data, tmp_path):
    captioned = captioned_images(data, template="{} seen from above")
    assert captioned.distinct == ["bright square seen from above", "dark square seen from above"]
    assert captioned.spread(4) == [captioned.prompts[0]] * 2 + [captioned.prompts[-1]] * 2
    shutil.copytree(data, tmp_path / "listed")
    listing = tmp_path / "listed" / "metadata.jsonl"
    listing.write_text(json.dumps({"file_name": "dark_square/0.png", "text": "night"}) + "\n")
    assert captioned_images(tmp_path / "listed").prompts == ("night",)
    (tmp_path / "prompts.txt").write_text("one\n\ntwo\n")
    assert read_prompts(tmp_path / "prompts.txt") == ["one", "two"]


@pytest.mark.parametrize(
    "template",
    [
        *("a photo", "{} and {}", "{{}}", "{0}", "{0.__class__}", "{} in {style}", "{!r}", "{:>9999999999}", "{} {"),
        *("{}}", "", 3, None, b"{}"),
    ],
)
def test_a_template_has_one_place_and_nothing_that_is_evaluated(stored, data, template):
    with pytest.raises(FiltersubError, match=r"needs one \{\} for the class and no other braces"):
        captioned_images(data, template=template)
    with pytest.raises(FiltersubError, match=r"template"):
        small_settings(stored, data, template=template)


NAMES = ("{0.__class__}", "{}", "%s", "$HOME", "\N{LINE SEPARATOR}two lines", "[red]")


def test_names_of_classes_and_captions_are_taken_as_they_are(data, tmp_path):
    image = next(data.rglob("*.png"))
    for name in NAMES:
        (tmp_path / "classes" / name).mkdir(parents=True)
        shutil.copy(image, tmp_path / "classes" / name / "0.png")
    assert set(captioned_images(tmp_path / "classes").prompts) == {
        f"a photo of a {name.replace('_', ' ')}" for name in NAMES
    }
    listed = shutil.copytree(data, tmp_path / "listed") / "metadata.jsonl"
    lines = [json.dumps({"file_name": "dark_square/0.png", "text": name}, ensure_ascii=False) for name in NAMES]
    listed.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert captioned_images(tmp_path / "listed").prompts == NAMES
    listed.write_bytes(lines[0].encode().replace(b"class", b"cl\xe4ss"))
    with pytest.raises(FiltersubError, match=r"metadata.jsonl are not UTF-8 text \(byte "):
        captioned_images(tmp_path / "listed")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken", "line 2: expected"),
        ('{"file_name": "dark_square/0.png"}', "line 2: text is missing"),
        ("[1]", r"line 2: should be a mapping, got \[1\]"),
        ('{"file_name": "nowhere.png", "text": "x"}', "line 2: there is no file"),
        ('{"file_name": "../../secret.png", "text": "x"}', "line 2: .*outside the folder"),
        ('{"file_name": "dark_square/0.png", "text": 3}', "line 2: text should be text, got 3"),
        ('{"file_name": ["dark_square/0.png"], "text": "x"}', "line 2: file_name should be text, got"),
        ('{"file_name": "dark_square/0.png\\u0000", "text": "x"}', "line 2: file_name must be the name of a file"),
        ("[" * 100_000, "line 2: expected"),
    ],
)
def test_prompts_files_that_do_not_parse_name_the_line(data, tmp_path, line, message):
    shutil.copytree(data, tmp_path / "listed")
    good = json.dumps({"file_name": "dark_square/0.png", "text": "night"})
    (tmp_path / "listed" / "metadata.jsonl").write_text(f"{good}\n{line}\n")
    with pytest.raises(FiltersubError, match=message):
        captioned_images(tmp_path / "listed")


def test_bad_settings_are_one_line(stored, data, tmp_path):
    for changes, message in (
        ({"method": "dreambooth"}, "unknown method 'dreambooth'"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"learning_rate": -1.0}, "learning_rate must be a positive number"),
        ({"batch_size": 3, "accumulation": 2}, "cannot be split into 2"),
        ({"images": -1}, "images must not be negative"),
    ):
        with pytest.raises(FiltersubError, match=message):
            small_settings(stored, data, **changes)
    with pytest.raises(FiltersubError, match="needs the Inception weights"):
        diffusion_run(small_settings(stored, data, features="inception", feature_weights="nowhere.pth"), tmp_path)
    with pytest.raises(FiltersubError, match="no layer"):
        inject_method(load_pipeline(stored).unet, MethodSettings(layers="nothing_like_this"))
    with pytest.raises(FiltersubError, match=r"needs one \{\}"):
        captioned_images(data, template="no place")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FiltersubError, match="holds no images with prompts"):
        captioned_images(tmp_path / "empty")
