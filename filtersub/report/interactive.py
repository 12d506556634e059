"""The part of a page that can be explored: Vega-Lite charts of the tuning runs, and Vega itself as one script.

The charts only repeat what the page's tables and still figures say, so nothing is lost where scripts do not run.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import plots
from ..user_cache import cache_folder, write_cached
from ..yaml_file import packaged_yaml
from .layer_changes import MEASURES, SHARES, LayerChanges
from .numbers import percent
from .sentences import curve_measure
from .table import Column

_BUNDLE = "vega-"  # how the names of kept scripts begin
_MOST_MEASURES = 4
_MOST_EPOCHS = 200  # of a curve; of more, evenly many are drawn


@cache
def vega_script() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script that fetches nothing, about 0.9 MB.

    vl-convert takes two seconds to bundle it, so the user's cache keeps it for each version, after a digest that tells
    a damaged file.
    """
    folder = cache_folder()
    kept = None if folder is None else folder / f"{_BUNDLE}{version('vl-convert-python')}.js"
    if kept is not None and (script := _read_bundle(kept)) is not None:
        return script
    import vl_convert

    script = vl_convert.javascript_bundle().replace("</script", "<\\/script")
    if kept is not None:
        write_cached(kept, f"{_digest(script)}\n{script}", _BUNDLE)
    return script


def _read_bundle(path: Path) -> str | None:
    """The script that vega_script kept; None where it is not there or not whole."""
    try:
        digest, _, script = path.read_bytes().decode().partition("\n")
    except (OSError, ValueError):
        return None
    return script if digest == _digest(script) else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def exploration(
    settings: pd.DataFrame,
    runs: pd.DataFrame,
    history: pd.DataFrame,
    columns: Sequence[Column],
    rows: list[dict],
    changes: Sequence[LayerChanges] = (),
    atoms: Sequence[dict[str, Any]] = (),
) -> dict[str, Any] | None:
    """``legend`` (settings with their colours on white and on black), ``titles`` and ``data`` (JSON) of the charts, and
    Vega's ``script``; None without runs. With learning curves, ``data`` holds as ``pair`` a chart for two runs, which
    the page's script fills.

    Parameters
    ----------
    settings, runs, history : collect.settings_table, tuning_table and history_table
    columns, rows : table.table_columns and table_rows of the same runs
    changes : layer_changes.layer_changes of them
    atoms : layer_changes.layer_atoms of them
    """
    if settings.empty:
        return None
    style = plots.settings_style(dict(zip(settings["label"], settings["family"], strict=True)))
    legend = [
        {"label": name, "tone": colour, "dark": plots.lighter_colour(colour)} for name, (colour, *_) in style.items()
    ]
    ids = dict(zip(map(str, runs["folder"]), (row["id"] for row in rows), strict=True))
    curves = _curves(history, ids)
    pictures = _atoms(atoms)
    charts = [_scatter(settings), *curves, *_layers(changes), *pictures, _parallel(columns, rows, runs)]
    pair: dict[str, Any] = {"pair": _pair(curves[0]["spec"])} if curves else {}
    if pictures:
        pair |= {"atoms": charts.index(pictures[0]), "pairAtoms": _pair_of_atoms(pictures[0]["spec"])}
    data = json.dumps({"legend": legend, "charts": charts, **pair}, separators=(",", ":"), allow_nan=False)
    titles = [(chart["title"], n > len(curves)) for n, chart in enumerate(charts)]  # layers and parallel axes need room
    return {"legend": legend, "titles": titles, "data": data.replace("<", "\\u003c"), "script": vega_script()}


def _scatter(settings: pd.DataFrame) -> dict[str, Any]:
    values = []
    for row in settings.to_dict("records"):
        known = len(row["seeds"]) > 1
        values.append(
            {
                "setting": row["label"],
                "trained": row["trained"],
                "accuracy": round(row["test_accuracy"], 6),
                "low": round(row["low"], 6) if known else None,
                "high": round(row["high"], 6) if known else None,
                "interval": f"{percent(row['low'])} to {percent(row['high'])}" if known else "one seed",
                "seeds": len(row["seeds"]),
            }
        )
    lowest, highest = float(settings["test_accuracy"].min()), float(settings["test_accuracy"].max())
    room = 0.25 * (highest - lowest) or 0.05
    chart = _chart("scatter", "Accuracy against trained parameters", values)
    bars, points = chart["spec"]["layer"]
    points["encoding"]["y"]["scale"]["domain"] = [max(0.0, lowest - room), min(1.0, highest + room)]
    if all(one["low"] is None for one in values):  # Vega warns of a layer without any row
        chart["spec"]["layer"].remove(bars)
    return chart


def _curves(history: pd.DataFrame, ids: dict[str, str]) -> list[dict[str, Any]]:
    """One chart with a line a run, whose measure can be switched; none where no run has a history."""
    names = [str(name) for name in history if str(name).endswith(("_accuracy", "_loss", "_error"))]
    measures = [name for name in names if pd.api.types.is_numeric_dtype(history[name]) and history[name].notna().any()]
    measures = measures[:_MOST_MEASURES]
    if not measures:
        return []
    values = []
    for (folder, label, seed), rows in history.groupby(["folder", "label", "seed"], sort=False):
        step = -(-len(rows) // _MOST_EPOCHS)
        kept = rows.iloc[::-1].iloc[::step].iloc[::-1]  # the last epoch stays
        curve = {
            name: [None if pd.isna(value) else round(float(value), 5) for value in kept[name]] for name in measures
        }
        epochs = [float(epoch) for epoch in kept["epoch"]]
        values.append(
            {"_run": len(values), "_id": ids.get(folder), "setting": label, "seed": int(seed), "epoch": epochs, **curve}
        )
    usual = curve_measure(history)
    chart = _chart("curves", "Learning curves", values)
    chart["spec"]["transform"][0]["flatten"] += measures
    _offer(chart, usual if usual in measures else measures[0], {name: name.replace("_", " ") for name in measures})
    return [chart]


def _layers(changes: Sequence[LayerChanges]) -> list[dict[str, Any]]:
    """One chart with a point a setting and layer: how far its atoms moved, or another measure that a reader chooses;
    none where no run says it."""
    values = [
        {
            **{"setting": one.label, "seed": one.seed, "layer": row["layer"], "atoms": int(row["atoms"])},
            **{name: round(float(row[name]), 5) if math.isfinite(row[name]) else None for name in MEASURES},
        }
        for one in changes
        for row in one.table.to_dict("records")
    ]
    if not values:
        return []
    known = {name: words for name, words in MEASURES.items() if any(value[name] is not None for value in values)}
    longest = sorted(changes, key=lambda one: -len(one.table))  # its order is the network's, for the others' layers too
    title = "How far tuning moved the atoms of each layer" + (", and how well they rebuilt it" * (len(known) > 2))
    chart = _chart("layers", title, values)
    encoding = chart["spec"]["layer"][0]["encoding"]
    fields = ("setting", "seed", "layer", "atoms", *known)
    encoding["tooltip"] = [
        {"field": name, "title": MEASURES.get(name, name)} | ({"format": ".3~%"} if name in SHARES else {})
        for name in fields
    ]
    order = dict.fromkeys(name for one in longest for name in one.table["layer"])
    chart["spec"]["encoding"]["x"]["sort"] = list(order)
    _offer(chart, next(iter(known)), known)
    return [chart]


def _pair(curves: dict[str, Any]) -> dict[str, Any]:
    """The learning curves of two runs; the page's script puts their values in."""
    look = _charts()["pair"]
    line, nearest = curves["layer"]
    layers = [{"mark": line["mark"], "encoding": {"strokeDash": look["strokeDash"]}}, nearest]
    encoding = {**curves["encoding"], "color": look["color"]}
    return {**curves, "data": {"values": []}, "layer": layers, "encoding": encoding}


def _atoms(atoms: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A chart of one layer of one run, which a reader chooses; none without atoms."""
    if not atoms:
        return []
    chart = _chart("atoms", "Atoms before and after tuning", list(atoms))
    for param, name in zip(chart["spec"]["params"][1:], ("run", "layer"), strict=True):
        param["bind"]["options"] = list(dict.fromkeys(row[name] for row in atoms))
        param["value"] = param["bind"]["options"][0]
    return [chart]


def _pair_of_atoms(spec: dict[str, Any]) -> dict[str, Any]:
    """The chart for two runs, told apart by ``_side``, A or B; the page's script puts their rows in."""
    params = [param for param in spec["params"] if param["name"] != "of_run"]
    transform = [{"filter": "datum.layer == of_layer"}, *spec["transform"][1:]]
    return {**spec, "data": {"values": []}, "params": params, "transform": transform}


def _parallel(columns: Sequence[Column], rows: list[dict], runs: pd.DataFrame) -> dict[str, Any]:
    """A line a run over an axis for each varied setting and result, each from its lowest value to its highest.

    Of many axes a few are shown at first, and each has a box to tick below the chart.
    """
    shown = [column for column in columns if column.is_setting and column.name != "overrides"]
    taken = [(n, column) for n, column in enumerate(columns) if column in shown]
    results = [(n, column) for n, column in enumerate(columns) if column.name in _MEASURED]
    values, labels, telling = [], [], []
    accuracy = runs["test_accuracy"].to_numpy(float)
    for axis, (number, column) in enumerate([*taken, *results]):
        cells = [row["cells"][number] for row in rows]
        texts = [cell["value"] for cell in cells]
        places, ticks = _places(texts, [cell["text"] for cell in cells])
        of_axis = {"axis": column.heading, "_axis": axis}
        labels += [{**of_axis, "_place": place, "text": text} for text, place in ticks]
        values += [
            {"_run": n, "setting": row["label"], "seed": seed, **of_axis, "_place": place, "value": cell["text"]}
            for n, (row, seed, place, cell) in enumerate(zip(rows, runs["seed"].tolist(), places, cells, strict=True))
        ]
        telling.append(math.inf if column.name in _FIRST else explained_share(texts, accuracy))
    order = [column.heading for _, column in [*taken, *results]]
    chart = _chart("parallel", "Parameters and results of every run", values)
    spec = chart["spec"]
    spec["encoding"]["x"]["sort"] = order
    spec["layer"][-1]["data"] = {"values": labels}
    if len(order) > _MOST_AXES:
        first = sorted(range(len(order)), key=lambda axis: -telling[axis])[:_MOST_AXES]
        ticks = [
            {"name": f"axis{n}", "value": n in first, "bind": {"input": "checkbox", "name": heading}}
            for n, heading in enumerate(order)
        ]
        spec["params"] += ticks
        spec["transform"] = [{"filter": f"[{', '.join(tick['name'] for tick in ticks)}][datum._axis]"}]
        spec["layer"][-1]["transform"] = spec["transform"]  # its data are its own
    return chart


def explained_share(groups: Sequence[str], values: np.ndarray) -> float:
    """Share of the values' variance that lies between groups, less what groups of chance would have (epsilon squared,
    Kelley 1935); at most 1, minus infinity where every value has a group of its own, or where there is one group.

    >>> explained_share(["a", "a", "b", "b"], np.array([1.0, 1.0, 3.0, 3.0]))
    1.0
    """
    codes, names = pd.factorize(pd.Series(groups))
    kept = np.isfinite(values)
    total = float(((values[kept] - values[kept].mean()) ** 2).sum()) if kept.any() else 0.0
    if not 1 < len(names) < kept.sum() or total == 0:
        return -math.inf
    within = pd.Series(values[kept]).groupby(codes[kept]).transform(lambda part: (part - part.mean()) ** 2).sum()
    return float(1 - (within / (kept.sum() - len(names))) / (total / (kept.sum() - 1)))


#: axes of a chart at first; names of more would lie over one another
_MOST_AXES = 9
_FIRST = ("test_accuracy", "trainable")
_MEASURED = ("test_accuracy", "trainable", "wall_seconds", "seconds_per_step", "peak_memory_bytes")
_MOST_TICKS = 6


def _places(values: list[str], texts: list[str]) -> tuple[list[float], list[tuple[str, float]]]:
    """Where each value lies on its axis, from 0 to 1, and what is written beside the axis.

    Numbers lie in proportion, what is missing below them; words lie evenly. Few different values are all written.
    """
    seen = dict(zip(values, texts, strict=True))
    try:
        numbers = {value: float(value) for value in seen if value != ""}
    except ValueError:
        numbers = {}
    spread = max(numbers.values()) - min(numbers.values()) if numbers else 0.0
    if len(numbers) > _MOST_TICKS and spread > 0:
        lowest = min(numbers, key=numbers.__getitem__)
        highest = max(numbers, key=numbers.__getitem__)
        base = 0.12 if "" in seen else 0.0
        at = {value: base + (1 - base) * (number - numbers[lowest]) / spread for value, number in numbers.items()}
        at |= {"": 0.0} if base else {}
        told = [*([""] if base else []), lowest, highest]
    else:
        ordered = sorted(seen, key=lambda value: (value != "", numbers.get(value, 0.0), value))
        at = {value: n / max(1, len(ordered) - 1) if len(ordered) > 1 else 0.5 for n, value in enumerate(ordered)}
        told = ordered if len(ordered) <= 2 * _MOST_TICKS else [ordered[0], ordered[-1]]
    return [round(at[value], 4) for value in values], [(seen[value], round(at[value], 4)) for value in told]


def _chart(name: str, title: str, values: list[dict[str, Any]]) -> dict[str, Any]:
    """``title`` and ``spec`` of the chart of this name in charts.yaml, with these data."""
    return {"title": title, "spec": {"data": {"values": values}, **deepcopy(_charts()[name])}}


@cache
def _charts() -> dict[str, Any]:
    return packaged_yaml(Path(__file__).with_name("charts.yaml"))


def _offer(chart: dict[str, Any], first: str, measures: Mapping[str, str]) -> None:
    """Let a reader choose what the chart's last parameter names, from these measures by what they are called."""
    param = chart["spec"]["params"][-1]
    param["value"] = first
    param["bind"] |= {"options": list(measures), "labels": list(measures.values())}
