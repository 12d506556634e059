#!/usr/bin/env bash
# accelerate 1.15.0: a prepared loader tells the data set a count of its own, and a pass that is broken off is drawn again.
#
# Behaviour: where a data set has a method `set_epoch`, as those of Hugging Face and many video and audio sets have for
# augmentations drawn by epoch, the loader that `Accelerator.prepare` returns calls it at the start of each pass with the
# number of passes that were finished before. The epoch that the training script had set just before is overwritten: a run
# that goes on at epoch 5 draws the augmentations of epoch 0. A pass that was left by `break` does not count, so the
# next one has the same number, and with `use_seedable_sampler` the same images in the same order: a script that takes
# a fixed number of steps from each pass trains on the same part of its data for ever.
# Guess before: the epoch that a script sets holds; and a shuffled loader shuffles anew at each pass.
# Seen (accelerate 1.15.0, torch 2.14.1, Python 3.11, Linux x86-64):
#   set to 5, seen by the data set: 0; set to 6, seen: 1
#   two passes broken off after 4 of 8 images: same images True, seen: 2 and 2
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6 accelerate==1.15.0
cat > "$folder/look.py" <<'PY'
from itertools import islice

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
from torch.utils.data import DataLoader, Dataset


class Numbers(Dataset):
    epoch = None

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return torch.tensor([index, self.epoch])


def drawn(epoch, batches=None):
    """Indices of a pass, whole or broken off, and the epoch by which the data set would draw its augmentations."""
    numbers.set_epoch(epoch)
    indices, epochs = torch.cat(list(islice(loader, batches))).T
    return indices.tolist(), epochs.unique().tolist()


numbers = Numbers()
accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True))
loader = accelerator.prepare(DataLoader(numbers, batch_size=2, shuffle=True))
(_, first), (_, second) = drawn(5), drawn(6)
print(f"set to 5, seen by the data set: {first[0]}; set to 6, seen: {second[0]}")
(one, third), (two, fourth) = drawn(7, batches=2), drawn(8, batches=2)
print(f"two passes broken off after 4 of 8 images: same images {one == two}, seen: {third[0]} and {fourth[0]}")
assert ([first, second, third, fourth], one == two) == ([[0], [1], [2], [2]], True), "the behaviour has changed"
PY
"$folder/venv/bin/python" "$folder/look.py"
