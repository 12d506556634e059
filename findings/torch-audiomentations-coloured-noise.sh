#!/usr/bin/env bash
# torch-audiomentations 0.12.0: noise of `AddColoredNoise` falls twice as steeply as its colour says, and repeats every second.
#
# Behaviour: `f_decay` is "the frequency power decay (1/f**f_decay)", with 1 for pink and 2 for brown noise. It is taken as a power of the
# amplitude, and of 1 + f / 90 instead of f (at 16 kHz). So "pink" noise falls by 6 dB an octave at high frequencies, which is brown, and
# by 1 below 100 Hz; "brown" falls by 12, "violet" rises by 12. Whatever the length of the audio, one second of noise is
# drawn and repeated: all seconds of a minute have the same noise. Signal to noise is as asked.
# Guess before: 3 dB an octave for pink noise, and the signal to noise that was asked for.
# Seen (torch-audiomentations 0.12.0, torch 2.14.1, torchaudio 2.11.1, SciPy 1.17.1, Python 3.11, Linux x86-64), dB an octave:
#   f_decay -2: 11.7 from 1 to 8 kHz, 3.8 below 100 Hz, by its definition 6.0; signal to noise 10.0 dB
#   f_decay -1: 5.8 from 1 to 8 kHz, 2.4 below 100 Hz, by its definition 3.0; signal to noise 10.0 dB
#   f_decay 0: 0.1 from 1 to 8 kHz, 0.0 below 100 Hz, by its definition 0.0; signal to noise 10.0 dB
#   f_decay 1: -5.8 from 1 to 8 kHz, -0.7 below 100 Hz, by its definition -3.0; signal to noise 10.0 dB
#   f_decay 2: -11.6 from 1 to 8 kHz, -3.9 below 100 Hz, by its definition -6.0; signal to noise 10.0 dB
#   correlation of the first second of noise with the last of a minute: 1.000
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 torchaudio==2.11.1 numpy==2.4.6 scipy==1.17.1 \
    torch-audiomentations==0.12.0
cat > "$folder/look.py" <<'PY'
import numpy
import torch
from scipy.signal import welch
from torch_audiomentations import AddColoredNoise

RATE = 16000
torch.manual_seed(0)
signal = torch.randn(1, 1, RATE * 60)


def slope(frequencies, powers, lowest, highest):
    chosen = (frequencies > lowest) & (frequencies < highest)
    return numpy.polyfit(numpy.log2(frequencies[chosen]), 10 * numpy.log10(powers[chosen]), 1)[0]


for decay in (-2, -1, 0, 1, 2):
    transform = AddColoredNoise(10.0, 10.0, float(decay), float(decay), p=1.0, sample_rate=RATE, output_type="dict")
    noise = (transform(signal.clone()).samples - signal)[0, 0]
    ratio = 10 * float(torch.log10(signal.square().mean() / noise.square().mean()))
    frequencies, powers = welch(noise.numpy(), RATE, nperseg=4096)
    high, low = slope(frequencies, powers, 1000, 7900), slope(frequencies, powers, 8, 100)
    asked = -10 * numpy.log10(2) * decay + 0.0
    print(
        f"f_decay {decay}: {high:.1f} from 1 to 8 kHz, {low:.1f} below 100 Hz, by its definition {asked:.1f}; "
        f"signal to noise {ratio:.1f} dB"
    )
    assert abs(ratio - 10) < 0.1 and abs(high - 2 * asked) < 0.8, "the behaviour has changed"
same = float(torch.corrcoef(torch.stack([noise[:RATE], noise[-RATE:]]))[0, 1])
print(f"correlation of the first second of noise with the last of a minute: {same:.3f}")
assert same > 0.999, "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
