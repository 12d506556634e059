"""Table 3 by one's own runs: every data set found, every method, one record each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import FiltersubError
from ..files import make_folder
from ..records import Record
from .diffusion_run import DiffusionSettings, diffusion_run
from .paper import PAPER_DATA


def table_runs(
    out: str | os.PathLike[str],
    *,
    pipeline: str | None,
    data_dir: str | os.PathLike[str] | None,
    datasets: Sequence[str] | None = None,
    methods: Sequence[str] = ("none", "full", "lora", "filter-subspace"),
    **settings: Any,
) -> dict[Path, Record]:
    """Records by folder ``out/DATA/METHOD``; none without a pipeline. Finished runs are read back.

    Parameters
    ----------
    data_dir : holds a folder a data set; datasets : their names, default those of Table 3 that are there
    settings : other fields of DiffusionSettings

    Raises FiltersubError when a pipeline comes without data, or a named data set is not there.
    """
    if pipeline is None:
        return {}
    if data_dir is None:
        raise FiltersubError("a pipeline is tuned on data: name the folder that holds the data sets (data_dir)")
    root = Path(data_dir)
    names = [name for name in PAPER_DATA if (root / name).is_dir()] if datasets is None else list(datasets)
    missing = [name for name in names if not (root / name).is_dir()]
    if missing or not names:
        raise FiltersubError(f"{root} has no folder {', '.join(missing) or 'of a data set of Table 3'}")
    made = {}
    for name in names:
        for method in methods:
            folder = make_folder(Path(out) / name / method)
            asked = DiffusionSettings(pipeline=pipeline, data=str(root / name), method=method, **settings)
            made[folder] = diffusion_run(asked, folder)
    return made
