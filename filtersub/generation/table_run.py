"""Table 3 by one's own runs: every data set found, every method, one record each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..data.catalogue import place
from ..errors import FiltersubError
from ..files import make_folder
from ..paper import check_reading, find_part, method_settings
from ..records import Record
from .diffusion_run import DiffusionSettings, diffusion_run
from .paper import PAPER_DATA, RUNS


def table_runs(
    out: str | os.PathLike[str],
    *,
    pipeline: str | None,
    data_dir: str | os.PathLike[str] | None,
    datasets: Sequence[str] | None = None,
    reading: str = "text",
    methods: Sequence[str] = ("none", "full", "lora", "filter-subspace"),
    **settings: Any,
) -> dict[Path, Record]:
    """Records by folder ``out/DATA/METHOD``; none without a pipeline. Finished runs are read back.

    Parameters
    ----------
    data_dir : holds a folder a data set; datasets : their names, default those of Table 3 that are there
    reading : of the paper, which says what full tuning, LoRA and the atoms are; a relative ``data_dir`` or ``pipeline``
        that is not there is looked for below the data root
    settings : other fields of DiffusionSettings; they win over the reading's

    Raises FiltersubError when a pipeline comes without data, or a named data set is not there.
    """
    if pipeline is None:
        return {}
    if data_dir is None:
        raise FiltersubError("a pipeline is tuned on data: name the folder that holds the data sets (data_dir)")
    root = place(str(data_dir))
    pipeline = str(place(pipeline)) if place(pipeline).is_dir() else pipeline
    methods_of = {method: table_method(method, reading) for method in methods}
    names = [name for name in PAPER_DATA if (root / name).is_dir()] if datasets is None else list(datasets)
    missing = [name for name in names if not (root / name).is_dir()]
    if missing or not names:
        raise FiltersubError(f"{root} has no folder {', '.join(missing) or 'of a data set of Table 3'}")
    made = {}
    for name in names:
        for method in methods:
            folder = make_folder(Path(out) / name / method)
            own = {**methods_of[method], **settings}
            asked = DiffusionSettings(pipeline=pipeline, data=str(root / name), **own)
            made[folder] = diffusion_run(asked, folder)
    return made


def table_method(method: str, reading: str) -> dict[str, Any]:
    """Settings of a row of the table by a reading; other methods are as they are."""
    part, run = find_part("table3"), RUNS.get(method, method)
    return method_settings(part, run, check_reading(reading)) if run in part.runs else {"method": method}
