#!/usr/bin/env bash
# torch-geometric 2.8.1: LSTM, GRU, LCM and patch aggregations of a graph depend on the largest graph of its batch.
#
# Behaviour: these aggregations lay the nodes of all graphs into one array, padded with zeros to the largest graph, and run over
# the zeros too: the LSTM and the GRU return their state after the padding. So a graph, or in `SAGEConv(aggr="lstm")` a node with
# few neighbours, has another embedding as soon as an unconnected larger one is in the same batch, in evaluation too. Nothing is
# said. Sums, means, medians, quantiles, `Set2Set` and set transformers give the same alone and in a batch.
# Guess before: in evaluation a graph has the same output alone and in a batch, for all of them.
# Seen (torch-geometric 2.8.1, torch 2.14.1, NumPy 2.4.6, Python 3.11, Linux x86-64), change of a graph of 5 nodes beside one of 8 or 40:
#   LSTMAggregation: 0.68, 0.86; beside one of 5 0.00
#   GRUAggregation: 0.54, 0.57; beside one of 5 0.00
#   LCMAggregation: 0.28, 0.60; beside one of 5 0.00
#   PatchTransformerAggregation: 0.09, 0.52; beside one of 5 0.00
#   SetTransformerAggregation: 0.00, 0.00; beside one of 5 0.00
#   Set2Set: 0.00, 0.00; beside one of 5 0.00
#   MeanAggregation: 0.00, 0.00; beside one of 5 0.00
#   MedianAggregation: 0.00, 0.00; beside one of 5 0.00
#   SAGEConv with aggr=lstm, a node of 2 neighbours, after edges elsewhere: 0.13
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6 torch-geometric==2.8.1
cat > "$folder/look.py" <<'PY'
import torch
from torch_geometric.nn import SAGEConv, aggr

OPTIONS = {
    "LSTMAggregation": {"in_channels": 4, "out_channels": 4},
    "GRUAggregation": {"in_channels": 4, "out_channels": 4},
    "LCMAggregation": {"in_channels": 4, "out_channels": 4},
    "PatchTransformerAggregation": {
        "in_channels": 4, "out_channels": 4, "patch_size": 2, "hidden_channels": 8, "num_transformer_blocks": 1, "heads": 2
    },
    "SetTransformerAggregation": {"channels": 4, "heads": 2},
    "Set2Set": {"in_channels": 4, "processing_steps": 2},
    "MeanAggregation": {},
    "MedianAggregation": {},
}
DEPENDENT = list(OPTIONS)[:4]
torch.manual_seed(0)
small, large = torch.randn(5, 4), torch.randn(40, 4)


def change(alone, beside):
    return float((beside - alone).norm() / alone.norm())


for name, options in OPTIONS.items():
    layer = getattr(aggr, name)(**options).eval()
    with torch.no_grad():
        alone = layer(small, torch.zeros(5, dtype=torch.long))[0]
        found = []
        for size in (5, 8, 40):
            batch = torch.cat([small, large[:size]])
            graphs = torch.tensor([0] * 5 + [1] * size)
            found.append(change(alone, layer(batch, graphs)[0]))
    print(f"{name}: {found[1]:.2f}, {found[2]:.2f}; beside one of 5 {found[0]:.2f}")
    assert found[0] < 1e-5, "the behaviour has changed"
    assert (found[2] > 0.05) == (name in DEPENDENT), "the behaviour has changed"

layer = SAGEConv(4, 4, aggr="lstm").eval()
pair = torch.tensor([[1, 2], [0, 0]])
hub = torch.stack([torch.arange(6, 26), torch.full((20,), 5)])
nodes = torch.randn(26, 4)
with torch.no_grad():
    found = change(layer(nodes, pair)[0], layer(nodes, torch.cat([pair, hub], 1))[0])
print(f"SAGEConv with aggr=lstm, a node of 2 neighbours, after edges elsewhere: {found:.2f}")
assert found > 0.05, "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
