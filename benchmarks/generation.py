"""A training step of Stable Diffusion's UNet at full size (random weights) by each method: memory and seconds.

On the meta device, what is counted without a weight; then real steps, where the machine can hold them: on a GPU in bf16
by default, on a CPU a few steps in float32 (860 M parameters are 3.4 GB; full tuning needs four times that).

    python benchmarks/generation.py [--methods filter-subspace,lora,full] [--steps 5] [--size 256] [--batch 1] [--meta]
"""

from __future__ import annotations

import argparse
import importlib.util

import psutil
import torch

GIB = 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default="filter-subspace,lora,full")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--size", type=int, default=256, help="pixels a side; the latents are an eighth of it")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--checkpointing", action="store_true", help="gradient checkpointing")
    parser.add_argument("--meta", action="store_true", help="only count")
    args = parser.parse_args()
    if importlib.util.find_spec("diffusers") is None:
        print("left out: it needs diffusers (pip install 'filtersub[diffusion]')")
        return
    methods = args.methods.split(",")
    for method in methods:
        counted(method)
    if not args.meta:
        for method in methods:
            measured(method, args)


def counted(method: str) -> None:
    """Parameters, and bytes of weights, gradients and Adam's two moments, in float32."""
    from filtersub.generation.methods import MethodSettings, inject_method
    from filtersub.parameters import load_architecture

    unet = load_architecture("diffusers:stable-diffusion-1.5")
    found = inject_method(unet, MethodSettings(method=method))
    held = sum(t.numel() * t.element_size() for t in (*unet.parameters(), *unet.buffers()))
    states = 3 * 4 * found.trainable
    print(
        f"{method:16} {found.trainable:>12,} of {found.total:,} trained ({found.trainable / found.total:.2%}); "
        f"weights and what is held {held / GIB:.2f} GiB, gradients and Adam's states {states / GIB:.3f} GiB"
    )


def measured(method: str, args: argparse.Namespace) -> None:
    from filtersub.generation.denoising import DenoisingConfig, DenoisingSet, fit_denoiser
    from filtersub.generation.methods import MethodSettings, inject_method

    on_gpu = torch.cuda.is_available()
    free = torch.cuda.mem_get_info()[0] if on_gpu else psutil.virtual_memory().available
    needed = (20 if method == "full" else 8) * GIB
    if free < needed:
        print(f"{method:16} left out: it needs about {needed / GIB:.0f} GiB, {free / GIB:.0f} are free")
        return
    from diffusers import DDPMScheduler

    torch.manual_seed(0)
    with torch.device("cuda" if on_gpu else "cpu"):
        unet = stable_diffusion_unet()
    injected = inject_method(unet, MethodSettings(method=method))
    side, count = args.size // 8, max(8, args.batch)
    random = torch.Generator().manual_seed(0)
    data = DenoisingSet(
        torch.randn(count, 4, side, side, generator=random),
        prompts=torch.ones(count, dtype=torch.long),
        embeddings=torch.randn(2, 77, 768, generator=random),
    )
    config = DenoisingConfig(
        steps=args.steps, batch_size=args.batch, learning_rate=1e-5, gradient_checkpointing=args.checkpointing
    )
    result = fit_denoiser(unet, DDPMScheduler(beta_schedule="scaled_linear"), data, config)
    print(
        f"{method:16} {result.seconds_per_step:8.3f} s a step (median of {args.steps}, batch {args.batch}, "
        f"{args.size} x {args.size}, {result.mixed_precision}, {result.device}), peak memory "
        f"{result.peak_memory_bytes / GIB:.2f} GiB, injection {injected.seconds:.1f} s",
        flush=True,
    )


def stable_diffusion_unet() -> torch.nn.Module:
    """The configuration of Stable Diffusion 1.5's UNet."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=64, cross_attention_dim=768, attention_head_dim=8, block_out_channels=(320, 640, 1280, 1280)
    )


if __name__ == "__main__":
    main()
