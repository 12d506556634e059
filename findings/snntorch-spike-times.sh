#!/usr/bin/env bash
# snnTorch 1.0.0: second spikes vanish where another sample fires first, a perfect answer costs 0.45, labels come back as row numbers.
#
# Behaviour: with `multi_spike=True`, `mse_temporal_loss` blanks the time step of each first spike in all samples and all neurons before it
# looks for the second, so a spike time depends on the other samples of the batch: a spike that is gone counts as one at the last step.
# With the default targets, "correct" at step 0 and "incorrect" at the last, all targets are 0: firing at once with every neuron costs
# nothing, the answer asked for costs most. (An open pull request tells of these zeros.) `spikegen.from_one_hot` returns the row numbers
# instead of the classes; `spikegen.rate` leaves out `gain` and `offset` where the input varies in time; `ce_rate_loss` with
# `population_code` takes class c as neuron c, not as the c-th group of neurons. Nothing is said.
# Guess before: a loss of several samples is the mean of theirs; spike times that hit their targets cost 0; settings act as documented.
# Seen (snnTorch 1.0.0, torch 2.13.0, Python 3.11, Linux x86-64):
#   spikes of 3 samples at their target times: loss alone 0.000, 0.000, 0.000; together 0.163
#   second spikes of the first neuron: at 9, 5, 5; alone 9, 5, 5; together 19, 19, 19
#   default targets: right neuron first, wrong one last: loss 0.451; both first: 0.000; targets [0.0, 0.0]
#   targets 1 and 19 in their place: right neuron first, wrong one last: loss 0.000
#   labels 2, 0, 1, 1 by one-hot and back: [0, 1, 2, 3]
#   rate of 0.8 with a gain of 0.25 and an offset of 0.1: still input 0.30, input in time 0.80
#   group of class 1 fires: loss of class 0 by rate 2.412, by count 60.000; of class 1 by rate 2.412, by count 0.000
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 snntorch==1.0.0
cat > "$folder/look.py" <<'PY'
import snntorch.functional as SF
import torch
from snntorch import spikegen
from snntorch.functional.loss import SpikeTime

STEPS = 20
torch.manual_seed(0)

times = torch.tensor([[[3, 5], [2, 9], [3, 1]], [[9, 11], [5, 12], [5, 2]]]).float()  # spike, sample, neuron
spikes = torch.zeros(STEPS, 3, 2).scatter(0, times.long(), 1)
loss = SF.mse_temporal_loss(target_is_time=True, multi_spike=True)
alone = [float(loss(spikes[:, [sample]], times[:, [sample]].clone())) for sample in range(3)]
together = float(loss(spikes, times.clone()))
print(f"spikes of 3 samples at their target times: loss alone {', '.join(f'{value:.3f}' for value in alone)}; together {together:.3f}")
assert max(alone) == 0 and together > 0.1, "the behaviour has changed"
found = SpikeTime(target_is_time=True, multi_spike=True)
second = found(spikes, times.clone())[0][1, :, 0].int().tolist()
single = [int(found(spikes[:, [sample]], times[:, [sample]].clone())[0][1, 0, 0]) for sample in range(3)]
wanted = times[1, :, 0].int().tolist()
rows = [", ".join(map(str, row)) for row in (wanted, single, second)]
print("second spikes of the first neuron: at {}; alone {}; together {}".format(*rows))
assert single == wanted and second == [STEPS - 1] * 3, "the behaviour has changed"

right, both = torch.zeros(STEPS, 1, 2), torch.zeros(STEPS, 1, 2)
right[0, 0, 0] = right[-1, 0, 1] = both[0] = 1
label, default = torch.tensor([0]), SF.mse_temporal_loss()
answer, quick = float(default(right, label)), float(default(both, label))
targets = SpikeTime()(right, label)[1][0].tolist()
print(f"default targets: right neuron first, wrong one last: loss {answer:.3f}; both first: {quick:.3f}; targets {targets}")
assert abs(answer - (STEPS - 1) ** 2 / STEPS**2 / 2) < 1e-6 and quick == 0 and targets == [0, 0], "the behaviour has changed"
later = torch.roll(right, 1, 0)
later[0], later[-1, 0, 1] = 0, 1
named = float(SF.mse_temporal_loss(on_target=1, off_target=STEPS - 1)(later, label))
print(f"targets 1 and {STEPS - 1} in their place: right neuron first, wrong one last: loss {named:.3f}")
assert named == 0, "the behaviour has changed"

back = spikegen.from_one_hot(spikegen.to_one_hot(torch.tensor([2, 0, 1, 1]), 3)).tolist()
print(f"labels 2, 0, 1, 1 by one-hot and back: {back}")
assert back == [0, 1, 2, 3], "the behaviour has changed"

settings, image = {"gain": 0.25, "offset": 0.1}, torch.full((4000,), 0.8)
still = float(spikegen.rate(image, num_steps=10, **settings).mean())
moving = float(spikegen.rate(image.expand(10, -1), time_var_input=True, **settings).mean())
print(f"rate of 0.8 with a gain of 0.25 and an offset of 0.1: still input {still:.2f}, input in time {moving:.2f}")
assert abs(still - 0.3) < 0.02 and abs(moving - 0.8) < 0.02, "the behaviour has changed"

group = torch.zeros(STEPS, 1, 6)
group[:, 0, 3:] = 1
rate, count = SF.ce_rate_loss(True, 2, weight=torch.ones(2)), SF.ce_count_loss(True, 2)
costs = [[float(measure(group, torch.tensor([label]))) for measure in (rate, count)] for label in (0, 1)]
words = "; of class 1 by".join("{:.3f}, by count {:.3f}".format(*pair).join((" rate ", "")) for pair in costs)
print(f"group of class 1 fires: loss of class 0 by{words}")
assert costs[0][0] == costs[1][0] and costs[0][1] == 60 and costs[1][1] == 0, "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
