#!/usr/bin/env bash
# MONAI 1.6.1: the Hilbert transform of a signal of even length is not its analytic signal.
#
# Behaviour: `HilbertTransform` doubles positive frequencies and drops negative ones. At an even length it counts the
# highest frequency, which is its own negative, as negative and drops it (SciPy, and the definition, keep it once). The
# real part is then not the signal: of white noise of n samples about 1 / sqrt(n) is lost, of a signal that alternates
# from sample to sample all. The envelope of ultrasound images (`DetectEnvelope`) is that of it. Odd lengths are right.
# Guess before: the real part of the analytic signal is the signal, and it is SciPy's `hilbert`, at every length.
# Seen (MONAI 1.6.1, torch 2.14.1, SciPy 1.17.1, Python 3.11, Linux x86-64):
#   noise, 8 samples: 0.108 of the signal lost, 0.077 from SciPy's; smallest envelope 0.70, SciPy's 0.79
#   noise, 9 samples: 0.000 of the signal lost, 0.000 from SciPy's; smallest envelope 0.40, SciPy's 0.40
#   noise, 64 samples: 0.101 of the signal lost, 0.072 from SciPy's; smallest envelope 0.06, SciPy's 0.13
#   an edge, 64 samples: 0.019 of the signal lost, 0.017 from SciPy's; smallest envelope 0.02, SciPy's 0.00
#   alternating, 64 samples: 1.000 of the signal lost, 1.000 from SciPy's; smallest envelope 0.00, SciPy's 1.00
#   an edge, 63 samples: 0.000 of the signal lost, 0.000 from SciPy's; smallest envelope 0.00, SciPy's 0.00
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6 scipy==1.17.1 monai==1.6.1
cat > "$folder/look.py" <<'PY'
import numpy as np
import torch
from monai.networks.layers import HilbertTransform
from monai.transforms import DetectEnvelope
from scipy.signal import hilbert

generator = torch.Generator().manual_seed(0)
SIGNALS = {
    "noise, 8 samples": torch.randn(8, generator=generator),
    "noise, 9 samples": torch.randn(9, generator=generator),
    "noise, 64 samples": torch.randn(64, generator=generator),
    "an edge, 64 samples": (torch.arange(64) >= 21).float(),
    "alternating, 64 samples": torch.tensor([1.0, -1.0] * 32),
    "an edge, 63 samples": (torch.arange(63) >= 21).float(),
}
for title, signal in SIGNALS.items():
    found = HilbertTransform(axis=2)(signal[None, None])[0, 0].numpy()
    wanted = hilbert(signal.numpy())
    envelope = np.asarray(DetectEnvelope(axis=1)(signal[None]))[0]
    assert np.allclose(envelope, abs(found), atol=1e-6), "the behaviour has changed"
    lost = np.linalg.norm(found.real - signal.numpy()) / np.linalg.norm(signal)
    apart = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
    lowest = f"smallest envelope {envelope.min():.2f}, SciPy's {abs(wanted).min():.2f}"
    print(f"{title}: {lost:.3f} of the signal lost, {apart:.3f} from SciPy's; {lowest}")
    assert (max(lost, apart) < 1e-5) == (len(signal) % 2 == 1), "the behaviour has changed"
PY
"$folder/venv/bin/python" "$folder/look.py"
