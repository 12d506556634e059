#!/usr/bin/env bash
# asteroid-filterbanks 0.4.0: the decoder that is the pseudo-inverse of an STFT has entries of a million.
#
# Behaviour: `who_is_pinv="dec"` and `Decoder.pinv_of` invert the filters by `torch.pinverse` with its tolerance of
# 1e-15. The window of an STFT begins with a zero, so that the filters have a singular value of 0, which float32 finds
# to be about 1e-8 and inverts. The decoder then has entries of 1.5 million where the filters have 0.06. What it
# returns is wrong by as much as the signal is large, and where the encoding changes by a thousandth, as a mask or a
# network in between does, by hundreds of times the signal. No error and no warning. The plain decoder of the same STFT
# and pseudo-inverses of free filters are right.
# Guess before: the decoder returns the signal, as the plain decoder of the STFT does, up to the edges.
# Seen (asteroid-filterbanks 0.4.0, torch 2.14.1, Python 3.11, Linux x86-64), error over the size of the signal:
#   STFT, plain decoder: 3e-07, of an encoding changed by a thousandth 0.00071; largest entry 0.062
#   STFT, pseudo-inverse decoder: 0.86, of an encoding changed by a thousandth 9.2e+02; largest entry 1.5e+06
#   STFT of 256, pseudo-inverse decoder: 0.6, of an encoding changed by a thousandth 7.8e+02; largest entry 1e+06
#   free filters, pseudo-inverse decoder: 4.8e-07, of an encoding changed by a thousandth 0.00013; largest entry 0.24
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.14.1 numpy==2.4.6 asteroid-filterbanks==0.4.0
cat > "$folder/look.py" <<'PY'
import torch
from asteroid_filterbanks import make_enc_dec

torch.manual_seed(0)
WAVE = torch.randn(1, 1, 16000)
BANKS = {  # name, filters, samples of a filter, stride, which of the two is a pseudo-inverse
    "STFT, plain decoder": ("stft", 512, 512, 256, None),
    "STFT, pseudo-inverse decoder": ("stft", 512, 512, 256, "dec"),
    "STFT of 256, pseudo-inverse decoder": ("stft", 256, 256, 64, "dec"),
    "free filters, pseudo-inverse decoder": ("free", 512, 16, 8, "dec"),
}


def error(found):
    inner = slice(1000, 15000)  # edges are another matter
    return float((found - WAVE[..., : found.shape[-1]])[..., inner].norm() / WAVE[..., inner].norm())


for title, (name, filters, kernel, stride, inverse) in BANKS.items():
    encoder, decoder = make_enc_dec(
        name, n_filters=filters, kernel_size=kernel, stride=stride, who_is_pinv=inverse
    )
    with torch.no_grad():
        encoded = encoder(WAVE)
        whole = error(decoder(encoded)[..., :16000])
        near = error(decoder(encoded * (1 + 0.001 * torch.randn_like(encoded)))[..., :16000])
        largest = float(decoder.get_filters().abs().max())
    print(f"{title}: {whole:.2g}, of an encoding changed by a thousandth {near:.2g}; largest entry {largest:.2g}")
    wrong = name == "stft" and inverse == "dec"
    assert (whole > 0.1) == wrong, "the behaviour has changed"
    assert (near > 10) == wrong, "the behaviour has changed"
    assert (largest > 1e4) == wrong, "the behaviour has changed"
PY
"$folder/venv/bin/python" "$folder/look.py"
