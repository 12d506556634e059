#!/usr/bin/env bash
# mlxtend 0.25.0: accuracies by ".632+" run from -11 to 16, and a difference of proportions has p = 0.98 where the first is larger.
#
# Behaviour: the ".632+" bootstrap weighs by R = (err - train) / (gamma - train), which its paper keeps between 0 and 1 (and err at most gamma).
# `bootstrap_point632_score` does not: where a classifier does no better on its training images than without information the difference
# below is next to 0, and the weight .632 / (1 - .368 R) has a pole at R = 2.7. Few such splits move the mean of all: a classifier that
# is right for 0.5 to 0.6 of new images gets 0.27 or 0.72, as the data fall. `proportion_difference`, which "computes the p-value", returns
# the normal distribution's value at z: the share below it, which is large where the first proportion is. Nothing is said.
# Guess before: all accuracies are between 0 and 1 and ".632+" lies near the formula of the paper; p is that of a z test, in either order alike.
# Seen (mlxtend 0.25.0, scikit-learn 1.9.1, NumPy 2.4.6, Python 3.11, Linux x86-64), 60 images, 50 splits, logistic regression:
#   classes apart by 0, 8 data sets: new images 0.48 to 0.53, .632+ 0.47 to 0.62, by the paper 0.53 to 0.58; single splits -3.32 to 5.10
#   classes apart by 0.5, 8 data sets: new images 0.50 to 0.59, .632+ 0.27 to 0.72, by the paper 0.53 to 0.66; single splits -11.04 to 15.23
#   classes apart by 1, 8 data sets: new images 0.63 to 0.68, .632+ 0.42 to 0.90, by the paper 0.51 to 0.73; single splits -1.50 to 16.51
#   classes apart by 3, 8 data sets: new images 0.91 to 0.94, .632+ 0.86 to 0.98, by the paper 0.86 to 0.98; single splits 0.72 to 1.00
#   0.9 and 0.8 of 100 images: z 2.00, p 0.977; two sides 0.046
#   0.8 and 0.9 of 100 images: z -2.00, p 0.023; two sides 0.046
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check mlxtend==0.25.0 numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1 pandas==3.1.1
cat > "$folder/look.py" <<'PY'
import numpy as np
from mlxtend.evaluate import BootstrapOutOfBag, bootstrap_point632_score, proportion_difference
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression


def by_the_paper(classifier, features, labels):
    """Accuracies with R and the error kept to the paper's limits; without them what mlxtend returns."""
    limited, free = [], []
    for train, test in BootstrapOutOfBag(n_splits=50, random_seed=1).split(features):
        guessed = classifier.fit(features[train], labels[train]).predict(features)
        training, error = np.mean(guessed != labels), np.mean(guessed[test] != labels[test])
        gamma = np.mean(labels[:, None] != guessed)
        bounded = min(error, gamma)
        overfit = (bounded - training) / (gamma - training) if bounded > training and gamma > training else 0
        weight = 0.632 / (1 - 0.368 * overfit)
        limited.append(1 - weight * bounded - (1 - weight) * training)
        weight = 0.632 / (1 - 0.368 * np.divide(error - training, gamma - training))
        free.append(1 - weight * error - (1 - weight) * training)
    return np.array(limited), np.array(free)


rng = np.random.default_rng(0)
for shift in (0, 0.5, 1, 3):
    means, splits, wanted, true = [], [], [], []
    for _ in range(8):
        labels, features = rng.integers(0, 2, 1060), rng.normal(size=(1060, 5))
        features[:, 0] += shift * labels
        few, new = (features[:60], labels[:60]), (features[60:], labels[60:])
        classifier = LogisticRegression()
        true.append(classifier.fit(*few).score(*new))
        found = bootstrap_point632_score(classifier, *few, n_splits=50, method=".632+", random_seed=1)
        limited, free = by_the_paper(classifier, *few)
        assert np.allclose(found, free), "the behaviour has changed"
        assert 0 <= limited.min() <= limited.max() <= 1, "the example is wrong"
        means.append(found.mean())
        wanted.append(limited.mean())
        splits.extend((found.min(), found.max()))
    words = ["{:.2f} to {:.2f}".format(min(values), max(values)) for values in (true, means, wanted, splits)]
    print(
        f"classes apart by {shift}, 8 data sets: new images {words[0]}, .632+ {words[1]}, by the paper {words[2]}; "
        f"single splits {words[3]}"
    )
    assert (max(splits) > 1 and min(splits) < 0) == (shift < 3), "the behaviour has changed"

for first, second in ((0.9, 0.8), (0.8, 0.9)):
    z, p = proportion_difference(first, second, 100)
    print(f"{first} and {second} of 100 images: z {z:.2f}, p {p:.3f}; two sides {2 * norm.sf(abs(z)):.3f}")
    assert np.isclose(p, norm.cdf(z)) and (p > 0.9) == (first > second), "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
