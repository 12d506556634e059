#!/usr/bin/env bash
# stambo 0.1.6: labels of more than two classes are cut to true and false, and groups that a sample carries are left out.
#
# Behaviour: `compare_models` takes arrays of integers as predictions. It cuts each one-dimensional array at 0.5 before kappa, balanced
# accuracy and the Matthews correlation: class 0 stays 0, all other classes become 1. Of labels that start at 1 a perfect model has a kappa
# of 0, and p = 1 against any other. One column a class is right. `PredSampleWrapper` takes `groups`; `pairwise_bootstrap_test` resamples
# whole groups of them, `two_sample_test` resamples rows: intervals are those of independent rows. Nothing is said.
# Guess before: with groups, intervals are those of resampled groups; metrics are those of scikit-learn.
# Seen (stambo 0.1.6, NumPy 2.4.6, scikit-learn 1.9.1, Python 3.11, Linux x86-64), 400 images of 5 classes, models that guess a tenth and four tenths:
#   labels from 0, quadratic kappa: 0.184 and 0.136, p 0.008; scikit-learn 0.932 and 0.644; by columns 0.932 and 0.644, p 0.002
#   labels from 1, quadratic kappa: 0.000 and 0.000, p 1.000; scikit-learn 0.932 and 0.644; by columns 0.932 and 0.644, p 0.002
#   labels from 1, balanced accuracy: 0.200 and 0.200, p 1.000; scikit-learn 0.926 and 0.662; by columns 0.926 and 0.662, p 0.002
#   95 % interval of a difference of squared errors, 20 patients of 20 images: width 0.19 by pairwise_bootstrap_test, 0.19 by `groups`
#   of two_sample_test, 0.07 by groups of the samples in two_sample_test
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check stambo==0.1.6 numpy==2.4.6 scikit-learn==1.9.1
cat > "$folder/look.py" <<'PY'
import numpy as np
import stambo
from sklearn.metrics import balanced_accuracy_score, cohen_kappa_score

SETTINGS = {"n_bootstrap": 1000, "seed": 0, "silent": True}
rng = np.random.default_rng(0)
labels = rng.integers(0, 5, 400)
models = [np.where(rng.random(400) < share, labels, rng.integers(0, 5, 400)) for share in (0.9, 0.6)]
SCORES = {"QKappa": lambda *pair: cohen_kappa_score(*pair, weights="quadratic"), "BACC": balanced_accuracy_score}
for start, name, words in ((0, "QKappa", "quadratic kappa"), (1, "QKappa", "quadratic kappa"), (1, "BACC", "balanced accuracy")):
    given = stambo.compare_models(labels + start, *(model + start for model in models), metrics=(name,), **SETTINGS)[name]
    columns = stambo.compare_models(labels, *(np.eye(5)[model] for model in models), metrics=(name,), **SETTINGS)[name]
    wanted = [SCORES[name](labels, model) for model in models]
    print(f"labels from {start}, {words}: {given[4]:.3f} and {given[7]:.3f}, p {given[0]:.3f}; scikit-learn {wanted[0]:.3f} and ", end="")
    print(f"{wanted[1]:.3f}; by columns {columns[4]:.3f} and {columns[7]:.3f}, p {columns[0]:.3f}")
    assert np.allclose(columns[[4, 7]], wanted) and columns[0] < 0.01, "the behaviour has changed"
    cut = [SCORES[name](labels + start, (model + start > 0.5).astype(int)) for model in models]
    assert np.allclose(given[[4, 7]], cut) and max(cut) < 0.25, "the behaviour has changed"
    assert start == 0 or given[0] == 1, "the behaviour has changed"

# The second model has an error of its own in each patient.
patients = np.repeat(np.arange(20), 20)
targets = rng.normal(size=400)
errors = 0.3 * rng.normal(size=(2, 400))
errors[1] += 0.5 * rng.normal(size=20)[patients]
metric = {"MSE": stambo.metrics.MSE()}
alone, grouped = ([stambo.PredSampleWrapper(targets + error, targets, groups=groups, multiclass=False) for error in errors]
                  for groups in (None, patients))
pairwise = stambo.pairwise_bootstrap_test(tuple(grouped), statistics=metric, **SETTINGS)["MSE"]["0 / 1"]["ci_es"]
by_argument = stambo.two_sample_test(*alone, statistics=metric, groups=patients, **SETTINGS)["MSE"][2:4]
carried = stambo.two_sample_test(*grouped, statistics=metric, **SETTINGS)["MSE"][2:4]
rows = stambo.two_sample_test(*alone, statistics=metric, **SETTINGS)["MSE"][2:4]
widths = [float(ends[1] - ends[0]) for ends in (pairwise, by_argument, carried)]
print("95 % interval of a difference of squared errors, 20 patients of 20 images: width {:.2f} by pairwise_bootstrap_test, {:.2f} by "
      "`groups` of two_sample_test, {:.2f} by groups of the samples in two_sample_test".format(*widths))
assert np.allclose(carried, rows) and abs(widths[0] - widths[1]) < 0.02 and widths[2] < 0.5 * widths[0], "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
