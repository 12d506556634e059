"""The tables that a run wrote beside its record."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from ..records import read_record, read_table


def study_tables(folder: str | os.PathLike[str]) -> dict[str, pd.DataFrame]:
    """Every table of a run by its name. Raises FiltersubError when the record or one of its tables is missing."""
    return {name: read_table(Path(folder) / file) for name, file in read_record(folder).tables.items()}
