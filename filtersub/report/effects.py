"""What each varied parameter does to a result: differences between runs that are alike in all else, paired.

Works on records of any kind: the parameters that vary are found in them, nothing is named here but their order.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from ..collect import Collection, family, is_judged_on_test
from ..intervals import SIGNIFICANT, holm, paired_difference
from ..records import Record
from ..varying import TASK, completed_parameters, varying_parameters

_SETS = ("data", "model", "weights")  # have no effect to tell: runs are compared within each of them
_FIRST, _LAST = ("atoms", "expansion", "block", "l1_penalty"), ("learning_rate",)
_MOST_LEVELS = 8  # of a parameter that are compared two by two; of more, the rank correlation is told
_HIGHER, _LOWER = ("accuracy", "agreement", "score", "similarity"), ("error", "loss", "fid", "distance", "seconds")


@dataclass(frozen=True)
class Factor:
    """One varied parameter and what it does.

    Attributes
    ----------
    name : of the parameter in the records
    levels : one row a value, in order: level (text), runs, mean (over the combinations of the other parameters and
        seeds that every value was run with; NaN where there is none), trained (parameters without head, likewise)
    contrasts : one row a pair of values: first, second, pairs, difference (second less first), low, high (95 %
        interval), p_value (Holm-corrected over the contrasts of this parameter; NaN for fewer than two pairs),
        significant
    trend : (Spearman's rank correlation, its p-value) where there are more values than are compared two by two
    """

    name: str
    levels: pd.DataFrame
    contrasts: pd.DataFrame
    trend: tuple[float, float] | None = None

    @property
    def effect(self) -> float:
        """The largest difference between two values; 0 where no two were compared."""
        return float(self.contrasts["difference"].abs().max()) if len(self.contrasts) else 0.0


@dataclass(frozen=True)
class Interaction:
    """By how much the effect of ``first`` (from one value to another) differs between two values of ``second``.

    ``p_value`` is Holm-corrected over all interactions of the records, since the largest of them is chosen.
    """

    first: str
    second: str
    first_levels: tuple[str, str]
    second_levels: tuple[str, str]
    effects: tuple[float, float]
    difference: float
    low: float
    high: float
    p_value: float
    pairs: int


@dataclass(frozen=True)
class Effects:
    """What the varied parameters of some records do to one measure.

    Attributes
    ----------
    title : what the records are
    measure : name of the metric
    better : 1 where more of it is better, -1 where less is, 0 where that is not known
    factors : the largest effect first
    interaction : the largest one; None where no two parameters were varied against each other
    following : by parameter, the one that it changes together with, so that it has no effect of its own to tell
    seeds, runs : how many of each
    sets : how many sets of data and models the runs are of, within each of which they are compared
    """

    title: str
    measure: str
    better: int
    factors: tuple[Factor, ...]
    interaction: Interaction | None
    following: dict[str, str]
    seeds: int
    runs: int
    sets: int = 1


def all_effects(found: Collection) -> list[Effects]:
    """The effects that a report tells: on the test accuracy, for the runs of each method of tuning by themselves,
    filter atoms first; and for every other kind of record, on the first of its metrics that says what is better."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in found.records.values():
        judged = is_judged_on_test(record)
        kind = record.kind if judged or record.kind != "tuning" else "tuning, judged on validation images"
        groups.setdefault((kind, str(record.parameters.get("method", "")) if judged else ""), []).append(record)
    effects = []
    for (kind, method), records in groups.items():
        measure = "test_accuracy" if method or kind == "tuning" else _measure(records)
        title = kind
        if method:
            title = "filter atoms" if method == "filter-subspace" else family(records[0].parameters)
        if measure and (one := parameter_effects(records, measure, title)) is not None:
            effects.append(one)
    return sorted(effects, key=lambda one: one.title != "filter atoms")


def _measure(records: Sequence[Record]) -> str | None:
    """The metric of all these records that is told: one whose better side is known before one whose is not."""
    shared = [name for name in records[0].metrics if all(name in record.metrics for record in records)]
    told = [name for name in shared if len({record.metrics[name] for record in records}) > 1] or shared
    return next((name for name in told if direction(name)), told[0] if told else None)


def parameter_effects(records: Sequence[Record], measure: str, title: str) -> Effects | None:
    """The effects of the parameters in which these records differ on their metric ``measure``; None where none varies.

    Runs are compared that are alike in all other parameters and in the seed. A difference is the mean over such pairs,
    its interval and p-value are of the paired t test over them, so an effect that differs between the other settings
    widens its own interval. Parameters that never vary alone (a learning rate that a recipe gives to each setting) are
    left to those that they change with. Runs made twice are averaged first.
    """
    kept = [record for record in records if measure in record.metrics]
    table, values = _table(kept, measure)
    names, following = _separable(table, values)
    told = [name for name in names if name not in _SETS]
    if not told:
        return None
    sets = [name for name in _SETS if name in values]
    texts = {name: [level_text(value) for value in values[name]] for name in names}
    value = table.groupby([*names, "seed"], as_index=False, sort=False)[["value", "trained"]].mean()
    factors = sorted((_factor(value, name, names, texts[name]) for name in told), key=lambda f: -f.effect)
    found = [one for pair in combinations(told, 2) for one in _interactions(value, *pair, names, texts)]
    counts = {"seeds": int(table["seed"].nunique()), "runs": len(kept)}
    counts["sets"] = table.groupby(sets).ngroups if sets else 1
    return Effects(title, measure, direction(measure), tuple(factors), _largest(found), following, **counts)


def direction(measure: str) -> int:
    """1 where more of a measure is better, -1 where less is, 0 where its name does not tell.

    >>> direction("test_accuracy"), direction("relative_error"), direction("depth")
    (1, -1, 0)
    """
    return 1 if measure.endswith(_HIGHER) else -1 if measure.endswith(_LOWER) else 0


def enough(found: Effects, factor: Factor) -> tuple[pd.Series, pd.Series, pd.Series] | None:
    """(level, best level, their contrast): the level that trains fewest parameters of those not told apart from the
    best one, neither by the corrected test nor by the interval of their difference. None where there is none, and for
    parameters of the task (varying.TASK): fewer images or epochs are another task, not a smaller setting."""
    levels = factor.levels.dropna(subset=["mean", "trained"])
    if not found.better or len(levels) < 2 or factor.name in TASK:
        return None
    best = levels.loc[(found.better * levels["mean"]).idxmax()]
    for _, level in levels[levels["trained"] < best["trained"]].sort_values("trained").iterrows():
        contrast = _contrast(factor, level["level"], best["level"])
        if contrast is not None and contrast["p_value"] >= SIGNIFICANT and contrast["low"] <= 0 <= contrast["high"]:
            return level, best, contrast
    return None


def _contrast(factor: Factor, one: str, other: str) -> pd.Series | None:
    """The row that compares two levels, as ``one`` less ``other``."""
    for _, row in factor.contrasts.iterrows():
        if {row["first"], row["second"]} == {one, other}:
            if row["second"] == one:
                return row
            turned = {"difference": -row["difference"], "low": -row["high"], "high": -row["low"]}
            return pd.Series({**row, **turned})
    return None


def level_text(value: Any) -> str:
    """A parameter's value as readers write it.

    >>> level_text(None), level_text(0.1), level_text(9), level_text([1, 2])
    ('none', '0.1', '9', '1, 2')
    """
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(level_text, value)) if isinstance(value, list | tuple) else str(value)


def _table(records: Sequence[Record], measure: str) -> tuple[pd.DataFrame, dict[str, list[Any]]]:
    """One row a record, varied parameters as ranks of their values; and the values of each parameter by rank."""
    rows, values = [], {}
    ranks: dict[str, dict[str, int]] = {}
    asked = [completed_parameters(record) for record in records]
    for name in varying_parameters(records):
        seen = {repr(value): value for value in (parameters.get(name) for parameters in asked)}
        ordered = sorted(seen, key=lambda key, seen=seen: level_rank(seen[key]))
        ranks[name] = {key: n for n, key in enumerate(ordered)}
        values[name] = [seen[key] for key in ordered]
    for record, parameters in zip(records, asked, strict=True):
        levels = {name: of[repr(parameters.get(name))] for name, of in ranks.items()}
        trained = record.counts.get("trainable", np.nan)
        rows.append({**levels, "seed": record.seed, "value": record.metrics[measure], "trained": trained})
    return pd.DataFrame(rows), values


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def level_rank(value: Any) -> tuple[int, float, str]:
    """None first, then truth values and numbers by size, then words."""
    number = isinstance(value, int | float)
    return (0 if value is None else 1 if number else 2, float(value) if number else 0.0, str(value))


def _separable(table: pd.DataFrame, values: dict[str, list[Any]]) -> tuple[list[str], dict[str, str]]:
    """The parameters that vary with all others of them equal, and what each of the rest changes with.

    From the least telling on (learning rates, then words, then numbers, the method's own, data and model last), a
    parameter is dropped that the others determine.
    """
    varying = list(values)
    sets = [name for name in _SETS if name in values]
    rest = [name for name in varying if name not in (*_SETS, *_FIRST, *_LAST)]
    numbers = [name for name in rest if all(map(_is_number, values[name]))]
    words = [name for name in rest if name not in numbers]
    ordered = [*sets, *(n for n in _FIRST if n in values), *numbers, *words, *(n for n in _LAST if n in values)]
    names = list(ordered)
    for name in reversed(ordered):
        others = [other for other in names if other != name]
        if others and (table.groupby(others)[name].nunique() == 1).all():
            names = others
    following = {}
    for name in (name for name in varying if name not in names):
        alone = [other for other in names if (table.groupby(other)[name].nunique() == 1).all()]
        following[name] = alone[0] if alone else ""
    return names, following


def _factor(table: pd.DataFrame, name: str, names: list[str], texts: list[str]) -> Factor:
    rest = [*(other for other in names if other != name), "seed"]
    wide = table.pivot(index=rest, columns=name, values="value")
    whole = wide.dropna()
    trained = table.pivot(index=rest, columns=name, values="trained").reindex(whole.index)
    levels = pd.DataFrame(
        {
            "level": [texts[n] for n in wide],
            "runs": wide.notna().sum().tolist(),
            "mean": whole.mean().tolist() if len(whole) else np.nan,
            "trained": trained.mean().tolist() if len(whole) else np.nan,
        }
    )
    if wide.shape[1] > _MOST_LEVELS:
        return Factor(name, levels, pd.DataFrame(), _trend(wide))
    rows = []
    for first, second in combinations(wide.columns, 2):
        gaps = (wide[second] - wide[first]).dropna()
        if len(gaps):
            found = asdict(paired_difference(gaps.tolist()))
            rows.append({"first": texts[first], "second": texts[second], "pairs": len(gaps), **found})
    contrasts = pd.DataFrame(rows)
    if rows:
        contrasts["p_value"] = holm(contrasts["p_value"].tolist())
        contrasts["significant"] = contrasts["p_value"] < SIGNIFICANT
    return Factor(name, levels, contrasts)


def _trend(wide: pd.DataFrame) -> tuple[float, float] | None:
    """Spearman's rank correlation of the values' order with the measure, less its mean over runs alike in the rest."""
    from scipy import stats

    centred = wide.sub(wide.mean(axis="columns"), axis="index").stack().dropna()
    if len(centred) < 3 or centred.nunique() < 2:
        return None
    found = stats.spearmanr(centred.index.get_level_values(-1), centred.to_numpy())
    return float(found.statistic), float(found.pvalue)


def _interactions(
    table: pd.DataFrame, one: str, other: str, names: list[str], texts: dict[str, list[str]]
) -> Iterator[Interaction]:
    """The differences of differences between two values of each, as far as four runs cross; p-values as tested."""
    rest = [*(name for name in names if name not in (one, other)), "seed"]
    wide = table.pivot(index=rest, columns=[one, other], values="value")
    first, second = (sorted(set(wide.columns.get_level_values(name))) for name in (one, other))
    if max(len(first), len(second)) > _MOST_LEVELS:
        return
    for (a, b), (c, d) in ((p, q) for p in combinations(first, 2) for q in combinations(second, 2)):
        if not {(a, c), (b, c), (a, d), (b, d)} <= set(wide.columns):
            continue
        effects = pd.DataFrame({"at_c": wide[b, c] - wide[a, c], "at_d": wide[b, d] - wide[a, d]}).dropna()
        if len(effects):
            test = paired_difference((effects["at_d"] - effects["at_c"]).tolist())
            levels = (texts[one][a], texts[one][b]), (texts[other][c], texts[other][d])
            yield Interaction(one, other, *levels, tuple(effects.mean().tolist()), pairs=len(effects), **asdict(test))


def _largest(found: list[Interaction]) -> Interaction | None:
    """The largest one, its p-value corrected for the choice among all of them."""
    if not found:
        return None
    corrected = holm([one.p_value for one in found])
    largest = max(range(len(found)), key=lambda n: abs(found[n].difference))
    return replace(found[largest], p_value=corrected[largest])
