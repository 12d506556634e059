#!/usr/bin/env bash
# diffusers 0.42.1: with gradient checkpointing AutoencoderTiny encodes another image.
#
# Behaviour: the encoder takes images in [-1, 1] and scales them to [0, 1] before its first layer, but only in the branch
# without checkpointing. After `enable_gradient_checkpointing()`, and wherever gradients are on, that line is passed over:
# latents, outputs and gradients are those of another image, 2 x - 1. Under `no_grad` the
# same model encodes rightly, so that a check between training steps sees nothing. The decoder and AutoencoderKL are right.
# Guess before: checkpointing costs time and changes no number.
# Seen (diffusers 0.42.1, torch 2.14.1, Python 3.11, Linux x86-64), largest difference from the encoder without checkpointing:
#   AutoencoderTiny: with gradients 0.104, under no_grad 0.000
#   as if the image were in [0, 1] already: 0.000 from that
#   AutoencoderKL: with gradients 0.000, under no_grad 0.000
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6 diffusers==0.42.1
cat > "$folder/look.py" <<'PY'
import torch
from diffusers import AutoencoderKL, AutoencoderTiny


def latents(model, image):
    found = model.encode(image)
    return found.latents if hasattr(found, "latents") else found.latent_dist.mean


def far(one, other):
    return float((one - other).detach().abs().max())


torch.manual_seed(0)
image = 2 * torch.rand(2, 3, 16, 16) - 1
blocks = {"encoder_block_out_channels": (16, 16), "decoder_block_out_channels": (16, 16)}
tiny = AutoencoderTiny(**blocks, num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1)).train()
kinds = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
usual = AutoencoderKL(**kinds, block_out_channels=(16, 32), norm_num_groups=8).train()
seen = {}
for model in (tiny, usual):
    plain = latents(model, image)
    model.enable_gradient_checkpointing()
    checkpointed = latents(model, image)
    with torch.no_grad():
        quiet = latents(model, image)
    name = type(model).__name__
    seen[name] = far(checkpointed, plain), far(quiet, plain)
    print(f"{name}: with gradients {seen[name][0]:.3f}, under no_grad {seen[name][1]:.3f}")
    if model is tiny:
        with torch.no_grad():
            unscaled = latents(model, 2 * image - 1)  # whose scaled image is this one
        print(f"as if the image were in [0, 1] already: {far(checkpointed, unscaled):.3f} from that")
        assert far(checkpointed, unscaled) < 1e-5, "the behaviour has changed"
assert seen["AutoencoderTiny"][0] > 0.01, "the behaviour has changed"
assert max(seen["AutoencoderTiny"][1], *seen["AutoencoderKL"]) < 1e-5, "the behaviour has changed"
PY
"$folder/venv/bin/python" "$folder/look.py"
