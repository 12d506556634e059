"""A Stable Diffusion pipeline small enough for tests, in the on-disk form of the real one; images with classes."""

import json

import numpy as np
import torch
from PIL import Image


def tokenizer(folder):
    """CLIP's tokenizer over single letters, from local files."""
    from transformers import CLIPTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: place for place, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16)


def save_pipeline(folder, *, latents=4, seed=0):
    """save_pretrained of UNet, VAE, text encoder, tokenizer and scheduler."""
    from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=latents, out_channels=latents, layers_per_block=1, block_out_channels=(16, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16, attention_head_dim=4, norm_num_groups=4,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2, norm_num_groups=4, sample_size=16,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4,
    )  # fmt: skip
    text = CLIPTextConfig(
        vocab_size=54, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=16, bos_token_id=52, eos_token_id=53, pad_token_id=53,
    )  # fmt: skip
    noise = PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
    )
    pipeline = StableDiffusionPipeline(
        vae, CLIPTextModel(text), tokenizer(folder / "vocab"), unet, noise, None, None, requires_safety_checker=False
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def save_encoder(folder):
    """A ViT with its image processor, in the form of DINO's; embeddings of 4 numbers."""
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 4, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    ViTModel(ViTConfig(**sizes, image_size=16, patch_size=8)).save_pretrained(folder)
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def save_classes(folder, count=6, size=24):
    """Two classes: bright squares and dark ones."""
    random = np.random.default_rng(0)
    for name, low in (("bright_square", 150), ("dark_square", 0)):
        (folder / name).mkdir(parents=True)
        for place in range(count):
            pixels = random.integers(low, low + 100, (size, size + 4, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{place}.png")
    return folder
