#!/usr/bin/env bash
# nnAudio 0.3.4: where the top note is low, the variable-Q transform shows each tone an octave too high, and two others scale all.
#
# Behaviour: with `earlydownsample=True`, the default, the sound is first taken at half the rate where the highest note allows that.
# `VQT` then still builds its kernels for the whole rate: a tone stands an octave above its own bin, and the top octave has none.
# `CQT2010v2` gives root 2 times, and `CQT2010` a root-2-th of, the height of the definition (inner product with the kernel, times the
# root of its length), which `CQT1992v2` gives always. One octave more, or `earlydownsample=False`, makes all four agree. Nothing is said.
# Guess before: a tone stands in the bin of its frequency, with gamma=0 in all four at the same height, however many notes are asked for.
# Seen (nnAudio 0.3.4, torch 2.14.1, SciPy 1.17.1, Python 3.11, Linux x86-64), tones of 110, 220, 440 and 880 Hz at 22,050 Hz, octaves
# between a tone and where it stands, and height over the definition's:
#   5 octaves from 55 Hz: CQT1992v2 0.00 0.00 0.00 0.00, 1.00 1.00 1.00 1.00
#   5 octaves from 55 Hz: CQT2010v2 0.00 0.00 0.00 0.00, 1.41 1.41 1.41 1.42
#   5 octaves from 55 Hz: CQT2010 0.00 0.00 0.00 0.00, 0.71 0.71 0.71 0.71
#   5 octaves from 55 Hz: VQT 1.00 1.00 1.00 0.92, 1.00 1.00 1.00 0.51
#   6 octaves from 55 Hz, and 5 with earlydownsample=False: each 0.00 0.00 0.00 0.00, 1.00 1.00 1.00 1.00
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6 scipy==1.17.1 nnAudio==0.3.4
cat > "$folder/look.py" <<'PY'
import numpy as np
import torch
from nnAudio.features import CQT2010, CQT1992v2, CQT2010v2, VQT

RATE, TONES = 22050, (110, 220, 440, 880)
SECONDS = np.arange(3 * RATE) / RATE
Q = 1 / (2 ** (1 / 12) - 1)
TRANSFORMS = {"CQT1992v2": CQT1992v2, "CQT2010v2": CQT2010v2, "CQT2010": CQT2010, "VQT": VQT}
CASES = {"5 octaves from 55 Hz": {"n_bins": 60}, "6 octaves from 55 Hz": {"n_bins": 72}}
CASES["5 octaves from 55 Hz, earlydownsample=False"] = {"n_bins": 60, "earlydownsample": False}


def octaves_and_heights(transform):
    """Octaves between each tone and where it stands, and its height over half of the root of the window's length."""
    places, heights = [], []
    for tone in TONES:
        sound = torch.from_numpy(np.sin(2 * np.pi * tone * SECONDS).astype(np.float32))
        column = transform(sound[None])[0]
        column = column[:, column.shape[1] // 2]
        bin_ = int(column.argmax())
        places.append(bin_ / 12 - np.log2(tone / 55))
        heights.append(float(column[bin_]) / (np.sqrt(Q * RATE / tone) / 2))
    return places, heights


for title, settings in CASES.items():
    for name, kind in TRANSFORMS.items():
        if name == "CQT1992v2" and "earlydownsample" in settings:
            continue
        places, heights = octaves_and_heights(kind(sr=RATE, hop_length=512, fmin=55, verbose=False, **settings))
        told = [" ".join(f"{value:.2f}" for value in values) for values in (places, heights)]
        print(f"{title}: {name} {told[0]}, {told[1]}")
        early = title == "5 octaves from 55 Hz"
        octaves = 1 if early and name == "VQT" else 0
        height = {"CQT2010v2": 2**0.5, "CQT2010": 0.5**0.5}.get(name, 1) if early else 1
        assert max(abs(place - octaves) for place in places[:3]) < 0.05, "the behaviour has changed"
        assert max(abs(value - height) for value in heights[:3]) < 0.03, "the behaviour has changed"
        assert early and name == "VQT" or abs(places[3]) < 0.05, "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
