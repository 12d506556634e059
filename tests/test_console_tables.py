"""Tables of the command line in a terminal."""

import pandas as pd
import pytest
from rich.console import Console

from filtersub.cli import console

COUNTS = pd.DataFrame({"method": ["filter-subspace", "lora-ungrouped"], "layers": [53, 53]})
COUNTS = COUNTS.assign(**{f"adapter_bytes_{n}": [490_427_844, 980_855_688] for n in range(5)})


@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_word_or_number_is_broken(width, monkeypatch, capsys):
    """Wider than a narrow terminal where it must be, and no wider than a wide one."""

    def terminal(**options):
        return Console(**{"width": width, "force_terminal": True, "color_system": None, **options})

    monkeypatch.setattr(console, "plain_console", terminal)
    console.print_table(COUNTS, "counted")
    lines = capsys.readouterr().out.splitlines()
    words = {word.strip("│┃ ") for line in lines for word in line.split()}
    assert {"filter-subspace", "lora-ungrouped", "490,427,844", "adapter", "layers"} <= words
    rows = [line for line in lines if line.startswith("│")]
    assert all(line.endswith("│") for line in rows)
    assert [line.count("490,427,844") for line in rows] == [5, 0]
    if width == 120:
        assert max(map(len, lines)) <= width
