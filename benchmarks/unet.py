"""All 3 x 3 kernels of a UNet of the size of Stable Diffusion 1.5, decomposed in one call, against one pass of spams.

The UNet is diffusers' own class at its configuration for Stable Diffusion 1.5 (860 M parameters) with random weights.
Ours: ``decompose_model`` into a folder, start to end: dictionaries learned, every row coded, diagnostics, files.
spams: one ``spams.lasso`` (mode 2: LARS, in C++) over the same rows with the dictionaries that were learned, its data
laid out outside the clock. Both in one process, with as many threads; JIT compilation is outside the clock.

    python benchmarks/unet.py [--atoms 9] [--l1-penalty 1e-3] [--layers REGEX] [--threads 2] [--folder DIR] [--no-spams]
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from filtersub.decomposition import DecompositionConfig, decompose_model, decompose_weight, plan_layers
from filtersub.kernels import kernel_matrix, layout_of
from filtersub.memory import PeakMemory
from filtersub.sparse_coding import warm_up

GIB = 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--atoms", type=int, default=9)
    parser.add_argument("--l1-penalty", type=float, default=1e-3)
    parser.add_argument("--layers", help="only layers whose name this matches")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where the result goes; default a temporary one")
    parser.add_argument("--no-spams", action="store_true", help="leave the reference out")
    args = parser.parse_args()
    if importlib.util.find_spec("diffusers") is None:
        print("left out: it needs diffusers (pip install 'filtersub[diffusion]')")
        return
    torch.set_num_threads(args.threads)
    config = DecompositionConfig(atoms=args.atoms, l1_penalty=args.l1_penalty)
    warm_up()
    rehearse(config)
    unet = stable_diffusion_unet()
    plan = plan_layers(unet, config, layers=args.layers)
    n_rows = sum(layer.layout.n_rows for layer in plan.values())
    print(
        f"{sum(p.numel() for p in unet.parameters()):,} parameters; {len(plan)} layers of 3 x 3 kernels, "
        f"{n_rows:,} rows; m = {args.atoms}, l = {args.l1_penalty:g}, {args.threads} threads, "
        f"load {os.getloadavg()[0]:.1f}"
    )
    place = nullcontext(args.folder) if args.folder else tempfile.TemporaryDirectory(prefix="filtersub-unet-")
    with place as folder:
        bar = tqdm(total=len(plan), unit="layer")
        with PeakMemory("cpu") as memory:
            began = time.perf_counter()
            found = decompose_model(
                unet, config, layers=args.layers, folder=folder, on_layer=lambda done, _, name: shown(bar, done, name)
            )
            seconds = time.perf_counter() - began
        bar.update(len(plan) - bar.n)
        bar.close()
        print(
            f"ours   {seconds:8.1f} s  ({n_rows / seconds:,.0f} rows a second), "
            f"relative error {found.relative_error:.4f}; "
            f"peak memory {memory.bytes / GIB:.2f} GiB, of which the UNet itself {weight_bytes(unet) / GIB:.2f}"
        )
        learning = found.seconds
        print(f"       {learning:8.1f} s of it learning and coding, the rest diagnostics and files")
        if not args.no_spams:
            modules = dict(unet.named_modules())
            spams_seconds = sum(
                one_pass(kernel_matrix(layer.layout, modules[name]), layer.atoms, args.l1_penalty, args.threads)
                for name, layer in tqdm(found.layers.items(), unit="layer")
            )
            print(f"spams  {spams_seconds:8.1f} s  (one pass)")
            print(f"ours / spams = {seconds / spams_seconds:.2f}")


def stable_diffusion_unet() -> nn.Module:
    """The configuration of Stable Diffusion 1.5's UNet, seeded random weights."""
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=64,
        cross_attention_dim=768,
        attention_head_dim=8,
        block_out_channels=(320, 640, 1280, 1280),
        layers_per_block=2,
    )
    return unet.eval().requires_grad_(False)


def rehearse(config: DecompositionConfig) -> None:
    """Compiles what is compiled on first use, on a small kernel."""
    weight = torch.randn(64, 64, 3, 3) * 0.02
    decompose_weight(layout_of("rehearsal", weight), weight, config)


def one_pass(rows: Tensor, atoms: Tensor, penalty: float, threads: int) -> float:
    import spams

    columns, dictionary = np.asfortranarray(rows.numpy().T), np.asfortranarray(atoms.numpy().T)
    began = time.perf_counter()
    spams.lasso(columns, D=dictionary, lambda1=penalty, mode=2, numThreads=threads)
    return time.perf_counter() - began


def weight_bytes(module: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in module.parameters())


def shown(bar: tqdm, done: int, name: str) -> None:
    bar.update(done - bar.n)
    bar.set_postfix_str(name)


if __name__ == "__main__":
    main()
