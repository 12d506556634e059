"""Scores over prompts, with small models in the form that transformers and torchvision save."""

import pytest
import torch
from tiny_pipeline import tokenizer

from filtersub.errors import FiltersubError
from filtersub.metrics import encoder_features, image_tensor, subject_scores
from filtersub.metrics.features import ImageEncoder, TextImageEncoder
from filtersub.metrics.subject import PerceptualDistance

PROMPTS = ["a red square", "a red square", "a blue dog"]


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    folder = tmp_path_factory.mktemp("clip")
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**sizes, "vocab_size": 60, "max_position_embeddings": 20, "eos_token_id": 53, "bos_token_id": 52}
    torch.manual_seed(0)
    vision = {**sizes, "image_size": 16, "patch_size": 8}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12))
    model.save_pretrained(folder)
    processor = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    CLIPProcessor(processor, tokenizer(folder)).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def dino_folder(tmp_path_factory):
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    folder = tmp_path_factory.mktemp("dino")
    torch.manual_seed(1)
    config = ViTConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=8
    )
    ViTModel(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def alex_file(tmp_path_factory):
    from torchvision.models import alexnet

    torch.manual_seed(2)
    state = {k: v for k, v in alexnet().state_dict().items() if k.startswith("features.")}
    file = tmp_path_factory.mktemp("lpips") / "alexnet.pth"
    torch.save(state, file)
    return file


@pytest.fixture
def pictures():
    return torch.randint(256, (3, 3, 40, 40), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)


def test_clip_t_is_the_cosine_of_the_models_own_logits(clip_folder, pictures):
    from transformers import CLIPModel, CLIPProcessor

    table = subject_scores(image_tensor(pictures), PROMPTS, clip=clip_folder)
    assert list(table["prompt"]) == ["a red square", "a blue dog"]
    assert list(table["images"]) == [2, 1]
    model, processor = CLIPModel.from_pretrained(clip_folder).eval(), CLIPProcessor.from_pretrained(clip_folder)
    inputs = processor(text=PROMPTS, images=list(pictures), return_tensors="pt", padding=True)
    with torch.no_grad():
        cosines = (model(**inputs).logits_per_image / model.logit_scale.exp()).diagonal()
    assert table["clip_t"].tolist() == pytest.approx([float(cosines[:2].mean()), float(cosines[2])], abs=1e-5)


def test_image_similarities_are_mean_cosines_with_every_reference(clip_folder, dino_folder, pictures):
    reference = pictures.flip(3)[:2]
    table = subject_scores(
        image_tensor(pictures), PROMPTS, reference=image_tensor(reference), clip=clip_folder, dino=dino_folder
    )
    for column, folder in (("clip_i", clip_folder), ("dino", dino_folder)):
        encoder = ImageEncoder(folder)
        ours, theirs = encoder.embed(pictures), encoder.embed(reference)
        cosines = torch.cosine_similarity(ours[:, None], theirs[None], dim=2).mean(1)
        assert table[column].tolist() == pytest.approx([float(cosines[:2].mean()), float(cosines[2])], abs=1e-5)
    same = subject_scores(
        image_tensor(pictures[:1]), PROMPTS[:1], reference=image_tensor(pictures[:1]), dino=dino_folder
    )
    assert same["dino"][0] == pytest.approx(1.0, abs=1e-5)


def test_dino_is_the_class_token(dino_folder, pictures):
    encoder = ImageEncoder(dino_folder)
    pixels = encoder.processor(images=list(pictures), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = encoder.model(pixel_values=pixels).last_hidden_state[:, 0]
    torch.testing.assert_close(encoder.embed(pictures), expected)
    assert encoder_features(dino_folder).distance_name == "vit-16 Fréchet distance"


def test_long_prompts_are_cut_as_clip_does(clip_folder):
    assert TextImageEncoder(clip_folder).embed_texts(["a" * 200, "a"]).shape == (2, 12)


def test_lpips_is_zero_of_equals_and_grows_with_noise(alex_file, pictures):
    distance = PerceptualDistance("alex", alex_file)
    assert distance(pictures, pictures).tolist() == [0.0, 0.0, 0.0]
    noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(0))
    near, far = ((pictures + size * noise).clamp(0, 255).to(torch.uint8) for size in (10, 80))
    assert bool((distance(pictures, near) < distance(pictures, far)).all())
    torch.testing.assert_close(distance(pictures, far), distance(far, pictures))


@pytest.mark.parametrize(("network", "kind"), [("squeeze", "squeezenet1_1"), ("vgg", "vgg11")])
def test_lpips_takes_the_weights_that_belong_to_its_network(network, kind, alex_file, tmp_path):
    import torchvision

    if network == "squeeze":
        torch.save(getattr(torchvision.models, kind)().state_dict(), tmp_path / "right.pth")
        assert float(PerceptualDistance(network, tmp_path / "right.pth")(*[torch.zeros(1, 3, 40, 40).byte()] * 2)) == 0
    with pytest.raises(FiltersubError, match="does not hold torchvision's weights"):
        PerceptualDistance(network, alex_file)


def test_diversity_is_over_the_pairs_of_a_prompt(alex_file, pictures):
    table = subject_scores(image_tensor(pictures), PROMPTS, lpips=("alex", alex_file))
    expected = PerceptualDistance("alex", alex_file)(pictures[:1], pictures[1:2])
    assert table["lpips"][0] == pytest.approx(float(expected))
    assert table["lpips"].isna().tolist() == [False, True]


def test_bad_input_is_one_line(clip_folder, dino_folder, tmp_path, pictures):
    images = image_tensor(pictures)
    with pytest.raises(FiltersubError, match="3 images and 1 prompts"):
        subject_scores(images, ["a"], clip=clip_folder)
    with pytest.raises(FiltersubError, match="no score was asked for"):
        subject_scores(images, PROMPTS)
    with pytest.raises(FiltersubError, match="needs reference images"):
        subject_scores(images, PROMPTS, dino=dino_folder)
    with pytest.raises(FiltersubError, match=r"lacks config\.json, preprocessor_config\.json"):
        ImageEncoder(tmp_path)
    with pytest.raises(FiltersubError, match="embeds no text"):
        subject_scores(images, PROMPTS, clip=dino_folder)
    with pytest.raises(FiltersubError, match="unknown network of LPIPS 'resnet'"):
        PerceptualDistance("resnet", tmp_path / "x.pth")
