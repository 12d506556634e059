#!/usr/bin/env bash
# diffusers 0.42.1, AutoencoderTiny: `forward` gives its encoder no gradient, `encode` and `decode` do.
#
# Behaviour: `forward` scales the latents to bytes, rounds them, and decodes those: the rounding has gradient zero and the
# result is detached by the cast to uint8. `loss(vae(images).sample).backward()` trains the decoder alone, in training mode
# too, without a word; through `decode(encode(images).latents)` both are trained.
# Guess before: `forward` is `decode` after `encode`, as in AutoencoderKL.
# Seen (diffusers 0.42.1, torch 2.14.1, Python 3.11, Linux x86-64):
#   tensors that get a gradient through forward: {'encoder': '0 of 17', 'decoder': '17 of 17'}
#   through encode and decode: {'encoder': '17 of 17', 'decoder': '17 of 17'}
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 diffusers==0.42.1 transformers==5.24.0
cat > "$folder/look.py" <<'PY'
import torch
from diffusers import AutoencoderTiny

torch.manual_seed(0)
sizes = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
vae = AutoencoderTiny(**sizes, num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1)).train()
images = 2 * torch.rand(2, 3, 32, 32) - 1


def with_gradient(sample: torch.Tensor) -> dict[str, str]:
    vae.zero_grad(set_to_none=True)
    (sample - images).square().mean().backward()
    counts = {}
    for part in ("encoder", "decoder"):
        weights = list(getattr(vae, part).parameters())
        counts[part] = f"{sum(weight.grad is not None for weight in weights)} of {len(weights)}"
    return counts


forward = with_gradient(vae(images).sample)
both = with_gradient(vae.decode(vae.encode(images).latents).sample)
print("tensors that get a gradient through forward:", forward)
print("through encode and decode:", both)
assert forward["encoder"].startswith("0 of"), "the behaviour has changed"
assert not both["encoder"].startswith("0 of"), "encode and decode train both"
PY
"$folder/venv/bin/python" "$folder/look.py"
