"""A training step of Stable Diffusion's UNet at full size (random weights) by each method: memory and seconds.

On the meta device, what is counted without a weight; then real steps, where the machine can hold them: on a GPU in bf16
by default, on a CPU a few steps in float32 (860 M parameters are 3.4 GB; full tuning needs four times that). Each
method is measured in a process of its own: what one has taken from the system would hide the peak of the next.

    python benchmarks/generation.py [--methods filter-subspace,lora,full] [--steps 5] [--size 256] [--batch 1] [--meta]
    python benchmarks/generation.py --channels 32,64,64,64 --size 64 --steps 1      # a trial in seconds
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import time

import psutil
import torch

GIB = 2**30
CHANNELS = (320, 640, 1280, 1280)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default="filter-subspace,lora,full")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--size", type=int, default=256, help="pixels a side; the latents are an eighth of it")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--checkpointing", action="store_true", help="gradient checkpointing")
    parser.add_argument("--channels", default=",".join(map(str, CHANNELS)), help="of the UNet's levels")
    parser.add_argument("--meta", action="store_true", help="only count")
    parser.add_argument("--here", action="store_true", help="measure one method in this process")
    args = parser.parse_args()
    if importlib.util.find_spec("diffusers") is None:
        print("left out: it needs diffusers (pip install 'filtersub[diffusion]')")
        return
    if args.here:
        measured(args.methods, args)
        return
    held = {method: counted(method, args) for method in args.methods.split(",")}
    for method in () if args.meta else held:
        measured_apart(method, held[method], args)


def counted(method: str, args: argparse.Namespace) -> int:
    """Prints parameters, and what weights, gradients and Adam's two moments take in float32; returns it, in bytes."""
    from filtersub.generation import MethodSettings, inject_method

    with torch.device("meta"):
        unet = stable_diffusion_unet(args.channels)
    found = inject_method(unet, MethodSettings(method=method))
    held = sum(t.numel() * t.element_size() for t in (*unet.parameters(), *unet.buffers()))
    states = 3 * 4 * found.trainable
    print(
        f"{method:16} {found.trainable:>12,} of {found.total:,} trained ({found.trainable / found.total:.2%}); "
        f"weights and what is held {held / GIB:.2f} GiB, gradients and Adam's states {states / GIB:.3f} GiB",
        flush=True,
    )
    return held + states


def measured_apart(method: str, held: int, args: argparse.Namespace) -> None:
    """In a process of its own, where what is held and the activations (2 GiB an image of 256 x 256) find room."""
    free = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else psutil.virtual_memory().available
    needed = held + 2 * GIB * args.batch * (args.size / 256) ** 2
    if free < needed:
        print(f"{method:16} left out: it needs about {needed / GIB:.0f} GiB, {free / GIB:.0f} are free")
        return
    done = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--methods", method, "--here"], check=False)
    if done.returncode:
        print(f"{method:16} ended with {done.returncode}; -9 is the system's, which ran out of memory")


def measured(method: str, args: argparse.Namespace) -> None:
    from diffusers import DDPMScheduler

    from filtersub.generation import MethodSettings, inject_method
    from filtersub.generation.denoising import DenoisingConfig, DenoisingSet, fit_denoiser

    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        unet = stable_diffusion_unet(args.channels)
    began = time.perf_counter()
    inject_method(unet, MethodSettings(method=method))
    seconds = time.perf_counter() - began
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
        f"{result.peak_memory_bytes / GIB:.2f} GiB, injection {seconds:.1f} s",
        flush=True,
    )


def stable_diffusion_unet(channels: str) -> torch.nn.Module:
    """Stable Diffusion 1.5's UNet, where the channels are the default's."""
    from diffusers import UNet2DConditionModel

    sizes = tuple(int(part) for part in channels.split(","))
    return UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8, block_out_channels=sizes)


if __name__ == "__main__":
    main()
