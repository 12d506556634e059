"""Which solver reaches the optimum of one real layer, and in what time?"""

import os
import time
from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from ..diagnostics import gap_table, solver_table
from ..dictionary import learn_dictionary
from ..files import make_folder
from ..folder_lock import locks
from ..kernels import kernel_matrix, select_layers
from ..memory import PeakMemory
from ..models import load_model
from ..records import Record, describe_environment
from ..settings import (
    MOST,
    MOST_SEED,
    check_each,
    check_names,
    check_number,
    check_positive,
    check_switch,
    check_whole,
)
from ..sparse_coding import check_solver


@locks("out")
def solver_study(
    out: str | os.PathLike[str],
    *,
    model: str = "efficientnet_lite0",
    pretrained: bool = True,
    layer: str = r"blocks\.6\.0\.conv_pw$",
    block: int | None = 3,
    block_spatial: bool = False,
    n_atoms: int = 12,
    l1_penalty: float = 1e-3,
    n_rows: int | None = 20_000,
    solvers: Sequence[str] | None = None,
    repeats: int = 3,
    seeds: Sequence[int] = (0,),
) -> Record:
    """Code the kernels of one layer by every solver, over atoms learned for it, and write the record into ``out``.

    Parameters
    ----------
    model, pretrained : see load_model
    layer : regular expression; the first layer that it finds is taken
    block, block_spatial : see select_layers; n_atoms is the number of atoms whatever the block
    n_rows : rows drawn at random, None for all
    solvers : names, default all; repeats : codings timed in turn
    seeds : of the rows drawn and of the atoms; a problem each

    Beside record.json: solvers.csv (diagnostics.solver_table) and gaps.csv (gap_table), each with a column ``seed``.
    Raises FiltersubError where no layer is found, and before that for numbers and names that cannot be.
    """
    check_switch("pretrained", pretrained)
    check_switch("block_spatial", block_spatial)
    check_whole("n_atoms", n_atoms, 1, MOST)
    check_number("l1_penalty", l1_penalty)
    check_positive("l1_penalty", l1_penalty)
    if n_rows is not None:
        check_whole("n_rows", n_rows, 1)
    if solvers is not None:
        solvers = [check_solver(name) for name in check_names("solvers", solvers)]
    check_whole("repeats", repeats, 1, MOST)
    seeds = check_each("seeds", seeds, check_whole, 0, MOST_SEED)
    folder = make_folder(out)
    loaded = load_model(model, pretrained=pretrained)
    name, layout = next(iter(select_layers(loaded, layers=layer, block=block, block_spatial=block_spatial).items()))
    kernels = kernel_matrix(layout, loaded.get_submodule(name)).double()
    began = time.perf_counter()
    tables, gaps = [], []
    with PeakMemory("cpu") as memory:
        for seed in seeds:
            rows = _drawn(kernels, n_rows, seed)
            atoms = learn_dictionary(rows, n_atoms, l1_penalty=l1_penalty, seed=seed, max_rounds=30).atoms
            table = solver_table(rows, atoms, l1_penalty, solvers=solvers, repeats=repeats)
            tables.append(table.assign(seed=seed))
            gaps.append(gap_table(rows, atoms, l1_penalty, repeats=repeats, table=table).assign(seed=seed))
    wall_seconds = time.perf_counter() - began
    judged = pd.concat(tables, ignore_index=True)
    exact = judged[judged["solver"] == "lasso"]
    parameters = {
        **{"model": model, "pretrained": pretrained, "layer": name, "block": block, "block_spatial": block_spatial},
        **{"n_atoms": n_atoms, "l1_penalty": l1_penalty, "n_rows": len(rows), "patch_size": rows.shape[1]},
        **{"repeats": repeats, "seeds": list(seeds)},
    }
    metrics = {"slowest_seconds": float(judged["seconds"].max())}
    if len(exact):
        metrics |= {
            "relative_gap": float(exact["relative_gap"].max()),
            "kkt_over_penalty": float(exact["kkt_over_penalty"].max()),
            "rows_per_second": float(exact["rows_per_second"].median()),
        }
    record = Record(
        kind="solvers",
        label=f"solvers on {model} {name}",
        parameters=parameters,
        seed=seeds[0],
        metrics=metrics,
        counts={"rows": len(rows), "atoms": n_atoms, "total": sum(p.numel() for p in loaded.parameters())},
        cost={"wall_seconds": wall_seconds, "peak_memory_bytes": memory.bytes},
        environment=describe_environment(),
    )
    return record.write(folder, solvers=judged, gaps=pd.concat(gaps, ignore_index=True))


def _drawn(kernels: Tensor, n_rows: int | None, seed: int) -> Tensor:
    if n_rows is None or n_rows >= len(kernels):
        return kernels
    return kernels[torch.randperm(len(kernels), generator=torch.Generator().manual_seed(seed))[:n_rows]]
