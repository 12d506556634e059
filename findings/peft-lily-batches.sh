#!/usr/bin/env bash
# peft 0.21.2: with Lily an image's output depends on the other images of its batch, and a token's on the tokens after it.
#
# Behaviour: Lily mixes a few shared matrices B by a router. The router's shares are averaged over all rows of the input, that is over the
# batch, the tokens and the padding, and one mixture serves all of them. So in evaluation too the same image has other
# outputs in other batches, and a causal language model sees what follows: the logits of its first tokens change with the last one,
# so that logits from a cache, token by token, are others than those of the whole text. The text of `LilyConfig` does not say so.
# A fresh adapter (B zero) shows nothing. LoRA on the same layers gives 0 in every column.
# Guess before: in evaluation an output does not depend on other samples of the batch.
# Seen (peft 0.21.2, transformers 5.24.0, torch 2.14.1, Python 3.11, Linux x86-64), largest change / largest output:
#   Lily: rows alone or in a batch 0.403, tokens before the changed last one 0.046, cache 0.327
#   LoRA: rows alone or in a batch 0.000, tokens before the changed last one 0.000, cache 0.000
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6 transformers==5.24.0 peft==0.21.2
cat > "$folder/look.py" <<'PY'
import torch
from peft import LilyConfig, LoraConfig, get_peft_model
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM


def adapted(network, config):
    model = get_peft_model(network, config).eval()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def change(found, wanted):
    return float((found - wanted).abs().max() / wanted.abs().max())


torch.set_grad_enabled(False)
CONFIGS = {
    "Lily": lambda targets: LilyConfig(r=8, num_B=4, target_modules=targets),
    "LoRA": lambda targets: LoraConfig(r=8, target_modules=targets),
}
for name, config in CONFIGS.items():
    torch.manual_seed(0)
    model = adapted(nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 64)), config(["0", "2"]))
    images = torch.randn(32, 64)
    alone = torch.cat([model(image[None]) for image in images])
    batch = change(model(images), alone)

    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    language = LlamaForCausalLM(LlamaConfig(vocab_size=100, max_position_embeddings=32, **sizes))
    language = adapted(language, config(["q_proj", "v_proj", "down_proj"]))
    text = torch.randint(0, 100, (1, 12))
    other = torch.cat([text[:, :-1], (text[:, -1:] + 1) % 100], 1)
    whole = language(text, use_cache=False).logits
    later = change(language(other, use_cache=False).logits[:, :-1], whole[:, :-1])
    cache, steps = None, []
    for token in text.T:
        output = language(token[None], past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        steps.append(output.logits)
    cached = change(torch.cat(steps, 1), whole)
    print(f"{name}: rows alone or in a batch {batch:.3f}, tokens before the changed last one {later:.3f}, cache {cached:.3f}")
    assert all((value > 0.001) == (name == "Lily") for value in (batch, later, cached)), "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
