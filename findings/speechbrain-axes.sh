#!/usr/bin/env bash
# speechbrain 1.1.2: a dilated causal convolution looks ahead, batch norm mixes channels with frequencies, an output padding is dropped.
#
# Behaviour: `Conv2d` with padding "causal" multiplies the kernel of the causal side by the dilation of the other side. With dilation
# (2, 1) the output is shorter and each step reads steps that come after it; with (1, 2) it is longer and late. `BatchNorm1d` with
# `combine_batch_time=True`, which takes (batch, time, frequency, channel), reshapes frequency x channel to channel x frequency
# where it would have to swap them: what it normalises is no channel. `ConvTranspose1d` takes `output_padding` and never hands it to
# torch. Nothing is said. Undilated causal convolutions, (batch, time, channel) and other paddings are right.
# Guess before: no causal output reads later steps, each channel comes out with mean 0 and variance 1, and the length is torch's.
# Seen (speechbrain 1.1.2, torch 2.14.1, Python 3.11, Linux x86-64):
#   causal, dilation (1, 1): 12 steps give 12, step 5 reads 3, 4, 5
#   causal, dilation (2, 2): 12 steps give 12, step 5 reads 1, 3, 5
#   causal, dilation (2, 1): 12 steps give 10, step 5 reads 3, 5, 7
#   causal, dilation (1, 2): 12 steps give 14, step 5 reads 1, 2, 3
#   batch norm of channels with means 0, 5, -5 and deviations 1, 2, 4, (batch, time, channel): means 0.0 0.0 0.0, deviations 1.0 1.0 1.0
#   batch norm of channels with means 0, 5, -5 and deviations 1, 2, 4, with frequencies: means 0.0 1.0 -1.0, deviations 0.2 0.4 0.8
#   transposed, stride 2, output padding 1: length 39, torch 40
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.14.1 torchaudio==2.11.1 numpy==2.4.6 scipy==1.17.1 speechbrain==1.1.2
cat > "$folder/look.py" <<'PY'
import torch
from speechbrain.nnet.CNN import Conv2d, ConvTranspose1d
from speechbrain.nnet.normalization import BatchNorm1d

torch.manual_seed(0)
READS = {(1, 1): [3, 4, 5], (2, 2): [1, 3, 5], (2, 1): [3, 5, 7], (1, 2): [1, 2, 3]}
for dilation, wanted in READS.items():
    image = torch.zeros(1, 12, 12, 1, requires_grad=True)  # batch, the other side, the causal side, channel
    output = Conv2d(2, (3, 1), in_channels=1, dilation=dilation, padding="causal")(image)
    output[0, 5, 5].sum().backward()
    steps = image.grad[0, 5, :, 0].nonzero().flatten().tolist()
    print(f"causal, dilation {dilation}: 12 steps give {output.shape[2]}, step 5 reads {', '.join(map(str, steps))}")
    assert steps == wanted, "the behaviour has changed"
    assert output.shape[2] == 12 + 2 * (dilation[1] - dilation[0]), "the behaviour has changed"

means, deviations = torch.tensor([0.0, 5.0, -5.0]), torch.tensor([1.0, 2.0, 4.0])
for title, shape in {"(batch, time, channel)": (8, 50, 3), "with frequencies": (8, 50, 20, 3)}.items():
    normalised = BatchNorm1d(shape, combine_batch_time=True)(means + deviations * torch.randn(shape)).detach().reshape(-1, 3)
    words = [" ".join(f"{value:.1f}" for value in values.tolist()) for values in (normalised.mean(0), normalised.std(0))]
    words = [text.replace("-0.0", "0.0") for text in words]
    print(
        f"batch norm of channels with means 0, 5, -5 and deviations 1, 2, 4, {title}: "
        f"means {words[0]}, deviations {words[1]}"
    )
    right = float(normalised.mean(0).abs().max()) < 1e-4 and float((normalised.std(0) - 1).abs().max()) < 1e-2
    assert right == (len(shape) == 3), "the behaviour has changed"

sound = torch.randn(1, 20, 1)
settings = {"stride": 2, "padding": 1, "output_padding": 1}
found = ConvTranspose1d(1, 3, in_channels=1, **settings)(sound).shape[1]
wanted = torch.nn.ConvTranspose1d(1, 1, 3, **settings)(sound.transpose(1, 2)).shape[2]
print(f"transposed, stride 2, output padding 1: length {found}, torch {wanted}")
assert (found, wanted) == (39, 40), "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
