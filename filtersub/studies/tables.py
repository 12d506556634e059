"""The tables that a run wrote beside its record."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from ..errors import FiltersubError
from ..records import read_record


def study_tables(folder: str | os.PathLike[str]) -> dict[str, pd.DataFrame]:
    """Every table of a run by its name. Raises FiltersubError when the record or one of its tables is missing."""
    found = {}
    for name, file in read_record(folder).tables.items():
        try:
            found[name] = pd.read_csv(Path(folder) / file)
        except (OSError, ValueError) as error:
            raise FiltersubError(f"{Path(folder) / file} is not a readable table: {error}") from None
    return found
