"""Other tools on tuned networks, case by case: right, or refused in one line (the table is zoo_crossings.py)."""

from contextlib import nullcontext

import pytest
import zoo_crossings
from zoo_crossings import CROSSINGS, checked

from filtersub.errors import FiltersubError

SLOW = "two processes"


def _case(tool, situation, call, is_refused):
    marks = [pytest.mark.slow] if situation.startswith(SLOW) else []
    return pytest.param(call, is_refused, id=f"{tool}: {situation}", marks=marks)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("call", "is_refused"), [_case(*each) for each in CROSSINGS])
def test_a_tool_meets_a_tuned_network(call, is_refused, run_code, monkeypatch):
    monkeypatch.setattr(zoo_crossings, "run_script", lambda *given: run_code(*map(str, given)).returncode)
    with pytest.raises(FiltersubError) if is_refused else nullcontext():
        checked(call, is_refused)
