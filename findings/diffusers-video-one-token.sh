#!/usr/bin/env bash
# diffusers 0.42.1: a fifth of what LoRA usually trains in a UNet of Stable Video Diffusion's form can never get a gradient.
#
# Behaviour: the pipeline hands the UNet one embedding of the first frame, a sequence of a single token, as
# `encoder_hidden_states`. A softmax over one key is 1 whatever the query and the key are, so in every cross-attention (attn2,
# spatial and temporal) `to_q`, `to_k` and the norm before them have a gradient of exactly zero and no influence on the
# output. LoRA on the usual targets (to_q, to_k, to_v, to_out.0) counts them as trained, and its optimiser moves them by
# weight decay alone. With two tokens they get gradients.
# Guess before: with every layer reached by the forward pass, every weight gets a gradient.
# Seen (diffusers 0.42.1, peft 0.21.2, torch 2.14.1, Python 3.11, Linux x86-64), LoRA of rank 4 on the four targets:
#   1 token: 5,312 of 26,624 trained numbers in layers without influence; they are all to_q and to_k of attn2: True
#   2 tokens: 0 of 26,624 trained numbers in layers without influence
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6 diffusers==0.42.1 peft==0.21.2 transformers==5.24.0
cat > "$folder/look.py" <<'PY'
import torch
from diffusers import UNetSpatioTemporalConditionModel
from peft import LoraConfig, get_peft_model

TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]


def without_influence(tokens):
    """Trained numbers, and those of layers whose B factor (it starts at zero, and so alone has a gradient) has none."""
    torch.manual_seed(0)
    unet = UNetSpatioTemporalConditionModel(
        sample_size=8,
        in_channels=8,
        out_channels=4,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        cross_attention_dim=16,
        num_attention_heads=8,
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=96,
    )
    unet = get_peft_model(unet, LoraConfig(r=4, target_modules=TARGETS))
    times = torch.tensor([[6.0, 127.0, 0.02]])
    out = unet(torch.randn(1, 3, 8, 8, 8), torch.tensor([3.0]), torch.randn(1, tokens, 16), added_time_ids=times)
    out.sample.square().sum().backward()
    trained = {name: p for name, p in unet.named_parameters() if p.requires_grad}
    dead = {name.split(".lora_")[0] for name, p in trained.items() if ".lora_B" in name and not bool(p.grad.any())}
    lost = sum(p.numel() for name, p in trained.items() if name.split(".lora_")[0] in dead)
    return sum(p.numel() for p in trained.values()), lost, dead


total, lost, dead = without_influence(tokens=1)
alike = all(".attn2.to_q" in name or ".attn2.to_k" in name for name in dead)
print(
    f"1 token: {lost:,} of {total:,} trained numbers in layers without influence; they are all to_q and to_k of attn2: {alike}"
)
more, lost_of_two, _ = without_influence(tokens=2)
print(f"2 tokens: {lost_of_two} of {more:,} trained numbers in layers without influence")
assert alike, "the behaviour has changed"
assert 0.15 < lost / total < 0.3, "the behaviour has changed"
assert lost_of_two == 0, "the behaviour has changed"
PY
"$folder/venv/bin/python" "$folder/look.py"
