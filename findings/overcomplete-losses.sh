#!/usr/bin/env bash
# overcomplete 0.3.0: two penalties of sparse autoencoders make codes dense, thresholds learn from gradients 1,000 times too large.
#
# Behaviour: `mse_hoyer` and `mse_kappa_4` add a measure of sparseness as a penalty, so that minimising them fills the codes. `mse_l1` takes
# the mean of the squared errors but the sum of the codes over the batch: 64 rows are penalised eight times as much as 8. The gradient of
# JumpReLU's threshold divides by the bandwidth twice where the kernel does so already: a thousand times too large at the default bandwidth
# of 0.001, twice that with the default kernel; only "cosine", which lacks its own division, gives the derivative of the mean. `r2_score`,
# "0 as good as the mean", which training logs, measures against one mean of all features: predicting each feature's mean scores 0.97.
# One `eval()` switches the dropout of the matching pursuit autoencoders off for good, and weights loaded after it do not count: the
# dictionary stays the old one, through another `eval()` too.
# Guess before: penalties make codes sparser, no loss grows with the batch, gradients are those of the paper, the mean scores 0, `train()`
# brings dropout back, and what is loaded counts.
# Seen (overcomplete 0.3.0, torch 2.13.0, Python 3.11, Linux x86-64):
#   R2 of the mean of each feature: 0.974, scikit-learn 0.000
#   mse_l1 of 8 equal rows 18.9, of 64 151.0
#   sparseness of the codes 0.80; trained with a penalty: mse_l1 0.82, mse_hoyer 0.04, mse_kappa_4 0.24
#   rectangle of bandwidth 0.1, 0.01, 0.001: gradient of the threshold times 10, 100, 1000
#   silverman of bandwidth 0.1, 0.01, 0.001: gradient of the threshold times 20, 200, 2000
#   cosine of bandwidth 0.1, 0.01, 0.001: gradient of the threshold times 1, 1, 1
#   dropout 0.5; None after eval() and train()
#   dictionary off the one loaded by 0.84, after eval() 0.84, after train() and eval() 0.00
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
install=("$folder/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check)
"${install[@]}" torch==2.13.0 numpy==2.4.6 matplotlib==3.8.4 scikit-learn==1.9.1 einops==0.8.1 tqdm
"${install[@]}" --no-deps overcomplete==0.3.0
cat > "$folder/look.py" <<'PY'
import sys
from unittest.mock import MagicMock

for name in ("torchvision", "skimage", "cv2"):  # which only its vision models and plots need
    sys.modules[name] = MagicMock()
import torch
from overcomplete.metrics import hoyer, r2_score
from overcomplete.sae import JumpSAE, MpSAE, TopKSAE
from overcomplete.sae.jump_sae import jump_relu
from overcomplete.sae.losses import mse_hoyer, mse_kappa_4, mse_l1
from sklearn.metrics import r2_score as reference

torch.manual_seed(0)
rows = torch.randn(2000, 16) + torch.linspace(-10, 10, 16)
mean = rows.mean(0).expand_as(rows)
found, wanted = float(r2_score(rows, mean)), reference(rows, mean)
print(f"R2 of the mean of each feature: {found:.3f}, scikit-learn {abs(wanted):.3f}")
assert found > 0.95 and abs(wanted) < 1e-6, "the behaviour has changed"

atoms = torch.nn.functional.normalize(torch.randn(40, 16), dim=1)
codes = torch.relu(torch.randn(64, 40) - 1)
losses = [float(mse_l1(rows[:count], rows[:count], None, codes[:1].expand(count, -1), None)) for count in (8, 64)]
print(f"mse_l1 of 8 equal rows {losses[0]:.1f}, of 64 {losses[1]:.1f}")
assert abs(losses[1] / losses[0] - 8) < 1e-3, "the behaviour has changed"


def sparseness(loss, penalty):
    """Hoyer's measure, 1 for the sparsest codes, after a loss was minimised from the planted codes on."""
    free = (codes + 0.01).requires_grad_()
    optimizer = torch.optim.Adam([free], lr=1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        loss(codes @ atoms, torch.relu(free) @ atoms, None, torch.relu(free), None, penalty=penalty).backward()
        optimizer.step()
    return float(hoyer(torch.relu(free.detach())).mean())


planted = float(hoyer(codes).mean())
found = [sparseness(loss, penalty) for loss, penalty in ((mse_l1, 1e-4), (mse_hoyer, 1), (mse_kappa_4, 1))]
words = ", ".join(
    f"{name} {value:.2f}" for name, value in zip(("mse_l1", "mse_hoyer", "mse_kappa_4"), found, strict=True)
)
print(f"sparseness of the codes {planted:.2f}; trained with a penalty: {words}")
assert found[0] > planted - 0.1 and max(found[1:]) < planted - 0.2, "the behaviour has changed"

level = float(torch.tensor(-1.0).exp())
inputs = torch.linspace(0, 1, 200_001)[:, None]
for kernel, wanted in (("rectangle", [10, 100, 1000]), ("silverman", [20, 200, 2000]), ("cosine", [1, 1, 1])):
    factors = []
    for bandwidth in (0.1, 0.01, 0.001):
        model = JumpSAE(1, 1, kernel=kernel, bandwidth=bandwidth)
        threshold = torch.tensor([level], requires_grad=True)
        jump_relu(inputs, threshold, model.kernel_fn, model.bandwidth).mean().backward()
        factors.append(float(threshold.grad) / -level)  # the mean of x above t, for x in (0, 1), has the derivative -t
    words = ", ".join(f"{value:.0f}" for value in factors)
    print(f"{kernel} of bandwidth 0.1, 0.01, 0.001: gradient of the threshold times {words}")
    ratios = [factor / times for factor, times in zip(factors, wanted, strict=True)]
    assert max(abs(ratio - 1) for ratio in ratios) < 0.1, "the behaviour has changed"

model = MpSAE(16, 40, k=1, dropout=0.5)
before = model.dropout
model.eval()
model.train()
print(f"dropout {before}; {model.dropout} after eval() and train()")
assert before == 0.5 and model.dropout is None, "the behaviour has changed"

first, second = TopKSAE(16, 40).eval(), TopKSAE(16, 40).eval()
first.load_state_dict(second.state_dict())
gap = (first.get_dictionary() - second.get_dictionary()).abs().max().item()
first.eval()
again = (first.get_dictionary() - second.get_dictionary()).abs().max().item()
first.train().eval()
last = (first.get_dictionary() - second.get_dictionary()).abs().max().item()
print(f"dictionary off the one loaded by {gap:.2f}, after eval() {again:.2f}, after train() and eval() {last:.2f}")
assert min(gap, again) > 0.1 and last < 1e-6, "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
