"""How many parameters does a setting train? The landscape of settings beside LoRA, and the paper's printed counts."""

import os
import time
from collections.abc import Sequence

import pandas as pd

from ..errors import FiltersubError
from ..files import make_folder
from ..folder_lock import locks
from ..parameters import PRESETS, load_architecture, readings_table
from ..parameters.budget import landscape, lora_ranks
from ..records import Record, describe_environment
from ..settings import MOST, check_each, check_names, check_switch, check_whole


@locks("out")
def parameter_study(
    out: str | os.PathLike[str],
    *,
    models: Sequence[str] = ("resnet50", "convnext_base", "diffusers:stable-diffusion-1.5"),
    atoms: Sequence[int] = (6, 9, 12),
    expansions: Sequence[int] = (0, 3, 4, 5, 6),
    blocks: Sequence[int] = (0, 2, 4),
    block_spatial: bool = False,
    expansion_coefficients: str = "shared",
    ranks: Sequence[int] = (1, 4, 16, 64),
    presets: Sequence[str] | None = None,
) -> Record:
    """Count every setting of every model on the meta device, and write the record of it into ``out``.

    Parameters
    ----------
    models : names for load_architecture
    atoms, expansions, blocks : grids of m, m_1 and k_c; 0 leaves atoms unexpanded, channels unblocked
    block_spatial, expansion_coefficients : of all settings, see DecompositionConfig
    ranks : of LoRA
    presets : printed figures of the paper to recompute; None takes all

    Raises FiltersubError, before anything is counted, where one of the lists is empty or holds what is no such number.

    Beside record.json: settings.csv (landscape of each model), lora.csv (lora_ranks of each) and readings.csv.
    """
    for name, values in {"models": models, "presets": tuple(PRESETS) if presets is None else presets}.items():
        if not check_names(name, values):
            raise FiltersubError(f"{name} is empty, so there is nothing to count; name at least one, or leave it out")
    for name, values, least in (("atoms", atoms, 1), ("expansions", expansions, 0), ("blocks", blocks, 0)):
        check_each(name, values, check_whole, least, MOST)
    check_each("ranks", ranks, check_whole, 1, MOST)
    check_switch("block_spatial", block_spatial)
    grids = {"models": models, "atoms": atoms, "expansions": expansions, "blocks": blocks, "ranks": ranks}
    folder, began = make_folder(out), time.perf_counter()
    of_all = {"block_spatial": block_spatial, "expansion_coefficients": expansion_coefficients}
    settings, lora, totals = [], [], {}
    for name in models:
        module = load_architecture(name)
        totals[name] = sum(p.numel() for p in module.parameters())
        grid = [atoms, [m_1 or None for m_1 in expansions], [k_c or None for k_c in blocks]]
        settings.append(landscape(module, *grid, **of_all).assign(model=name))
        lora.append(lora_ranks(module, ranks).assign(model=name))
    readings = readings_table(tuple(PRESETS if presets is None else presets))
    record = Record(
        kind="parameters",
        label=f"parameters of {len(totals)} models",
        parameters={
            **{name: list(values) for name, values in grids.items()},
            **of_all,
            "presets": readings["preset"].tolist(),
        },
        seed=0,
        metrics={"readings_that_agree": float(readings["agrees"].mean()) if len(readings) else float("nan")},
        counts={"settings": sum(len(grid) for grid in settings), "readings": len(readings)},
        cost={"wall_seconds": time.perf_counter() - began},
        environment=describe_environment(),
    )
    return record.write(folder, settings=pd.concat(settings), lora=pd.concat(lora), readings=readings)


def landscape_sentence(settings: pd.DataFrame, lora: pd.DataFrame) -> str:
    """The span of each model's settings and the smallest rank of LoRA that trains more than all of them."""
    parts = []
    for model, grid in settings.groupby("model", sort=False):
        least, most = grid["trainable"].min(), grid["trainable"].max()
        beyond = lora[(lora["model"] == model) & (lora["trainable"] > most)].sort_values("trainable")
        text = f"{model}: {least:,} to {most:,}"
        if len(beyond):
            first = beyond.iloc[0]
            text += f", less than LoRA of rank {first['rank']} ({first['method']}, {first['trainable']:,})"
        parts.append(text)
    return "; ".join(parts) + "."


def readings_sentence(readings: pd.DataFrame) -> str:
    """How many printed figures are met, and which are not."""
    failed = readings[~readings["agrees"].astype(bool)]
    missed = [f"{row.where} {row.printed} {row.unit}" for row in failed.itertuples()]
    said = f"{int(readings['agrees'].sum())} of {len(readings)} printed figures are met to their last digit"
    return f"{said}; not met: {', '.join(missed)}." if missed else f"{said}."
