"""The bar of a long loop, as a terminal shows it."""

import pytest

from filtersub import progress_bar


@pytest.mark.parametrize("seconds", [2, 40])
def test_the_time_left_is_told_whatever_a_step_takes(seconds, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes the output for a terminal
    monkeypatch.setenv("COLUMNS", "120")
    now = [0.0]
    monkeypatch.setattr("rich.console.monotonic", lambda: now[0])
    with progress_bar("first") as on_layer:
        for done in range(6):
            on_layer(done, 10, "stem")
            now[0] += seconds
    shown = capsys.readouterr().err
    assert "5/10" in shown
    assert f"0:{5 * seconds // 60:02d}:{5 * seconds % 60:02d}" in shown.rpartition("5/10")[2]
    assert "stem" in shown
