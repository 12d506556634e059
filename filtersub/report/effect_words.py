"""What the effects of parameters say, in sentences and as cells of a table."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from ..intervals import SIGNIFICANT, interval
from ..percentages import NBSP
from ..plots import metric_words
from ..records import Record
from .effects import Effects, Factor, Interaction, enough
from .numbers import amount, percent

_NAMES = {"atoms": "m", "expansion": "m₁", "block": "k_c", "l1_penalty": "l"}
_MOST_TOLD = 6  # values of a parameter whose means a sentence lists
UNTESTED = "one pair of runs, so whether that is noise is not known"


def parameter_name(name: str) -> str:
    """The paper's symbol for a parameter where it has one, else its words.

    >>> parameter_name("block"), parameter_name("learning_rate")
    ('k_c', 'learning rate')
    """
    return _NAMES.get(name, name.replace("_", " "))


def headline(effects: Sequence[Effects]) -> str:
    """What each varied parameter does, in one sentence for each kind of runs; empty where none varies."""
    texts = []
    for found in effects:
        told = [factor for factor in found.factors if len(factor.contrasts) or factor.trend]
        if told:
            beside = f" of {found.title}" if len(effects) > 1 else ""
            parts = "; ".join(_short(found, factor) for factor in told[:4])
            over = f", within each of {found.sets} sets of data and models" if found.sets > 1 else ""
            texts.append(f"What the parameters{beside} do to {metric_words(found.measure)}{over}: {parts}.")
    return " ".join(texts)


def effect_sentences(found: Effects) -> list[str]:
    """One text a parameter, the largest effect first; then the largest interaction, and what changes together."""
    texts = [_factor_text(found, factor) for factor in found.factors]
    if found.interaction is not None:
        texts.append(_interaction_text(found.measure, found.interaction))
    by: dict[str, list[str]] = {}
    for name, other in found.following.items():
        by.setdefault(other, []).append(parameter_name(name))
    for other, names in by.items():
        one = len(names) == 1
        verb, they = ("changes", "its part in the effect is") if one else ("change", "their parts in the effect are")
        beside = parameter_name(other) if other else "the other parameters"
        texts.append(f"{_listed(names)} {verb} together with {beside}, so {they} not known.")
    return texts


def records_sentence(records: Sequence[Record]) -> str:
    """What records say that no parameter was varied in: each kind's metrics, as means over the runs."""
    texts = []
    for kind in dict.fromkeys(record.kind for record in records):
        own = [record for record in records if record.kind == kind]
        shared = [name for name in own[0].metrics if all(name in record.metrics for record in own)]
        parts = [_mean_text(name, [record.metrics[name] for record in own]) for name in shared[:_MOST_TOLD]]
        runs = "One run" if len(own) == 1 else f"{len(own)} runs"
        told = f": {_listed(parts)}" if parts else ", without metrics"
        texts.append(f"{runs} of kind {kind}{told}.")
    return " ".join(texts)


def _mean_text(name: str, values: Sequence[float]) -> str:
    mean = amount(sum(values) / len(values), name)
    if len(values) == 1:
        return f"{metric_words(name)} {mean}"
    ends = " to ".join(amount(end, name) for end in interval(values))
    return f"{metric_words(name)} {mean} in the mean (95{NBSP}% t interval {ends})"


def contrast_rows(found: Effects) -> list[dict[str, Any]]:
    """The contrasts as cells: parameter, levels, difference, interval, pairs, p, verdict, moved."""
    rows = []
    for factor in found.factors:
        for row in factor.contrasts.to_dict("records"):
            told = {"parameter": parameter_name(factor.name), "levels": f"{row['first']} → {row['second']}"}
            told |= {name: amount(row[name], found.measure, signed=True) for name in ("difference", "low", "high")}
            told |= {"pairs": row["pairs"], "verdict": _verdict(row), "moved": bool(row["significant"])}
            rows.append({**told, "p": "–" if pd.isna(row["p_value"]) else f"{row['p_value']:.2g}"})
    return rows


def effect_table(found: Effects) -> pd.DataFrame:
    """The contrasts as plots.effects takes them, their parameters by name; those of the first six parameters."""
    named = [
        factor.contrasts.assign(
            parameter=parameter_name(factor.name),
            levels=factor.contrasts["first"] + " → " + factor.contrasts["second"],
        )
        for factor in found.factors[:_MOST_TOLD]
        if len(factor.contrasts)
    ]
    return pd.concat(named, ignore_index=True) if named else pd.DataFrame()


def _verdict(row: dict[str, Any]) -> str:
    if row["pairs"] == 1:
        return "not known: one pair"
    if pd.isna(row["p_value"]):
        return "not tested: every pair differs by the same"
    if not row["significant"]:
        return "not told apart"
    return "higher" if row["difference"] > 0 else "lower"


def _short(found: Effects, factor: Factor) -> str:
    name = parameter_name(factor.name)
    if factor.trend:
        rho, p_value = factor.trend
        return f"{name}: rank correlation {rho:+.2f} over {len(factor.levels)} values (p = {p_value:.2g})"
    row = _largest(factor)
    text = f"{name} from {row['first']} to {row['second']}: {_difference(row, found.measure)}"
    return f"{text} ({_judged(row)})"


def _factor_text(found: Effects, factor: Factor) -> str:
    name, measure, levels = parameter_name(factor.name), metric_words(found.measure), factor.levels
    if factor.trend:
        return f"{_short(found, factor)}; every value has too few runs to compare values two by two."
    if factor.contrasts.empty:
        return f"{name}: no two of its {len(levels)} values were run with all else alike, so its effect is not known."
    known = levels.dropna(subset=["mean"])
    text = ""
    if 2 <= len(known) <= _MOST_TOLD:
        told = [f"{amount(row.mean, found.measure)} at {row.level}" for row in known.itertuples(index=False)]
        text = f"{measure} is {_listed(told)}; "
    row = _largest(factor)
    pairs = f"{row['pairs']} pairs of runs alike in all else"
    ends = f", 95{NBSP}% interval {amount(row['low'], found.measure, signed=True)} to "
    ends += amount(row["high"], found.measure, signed=True)
    inside = f"{pairs}{ends}, {_judged(row)}" if row["pairs"] > 1 else _judged(row)
    text += f"from {row['first']} to {row['second']} it changes by {_difference(row, found.measure)} ({inside})."
    return f"{name}: {text}{_others_text(factor, name, row)}{_enough_text(found, factor, name)}"


def _others_text(factor: Factor, name: str, largest: pd.Series) -> str:
    """Which further values are told apart."""
    apart = factor.contrasts[factor.contrasts["significant"] & (factor.contrasts.index != largest.name)]
    tested = factor.contrasts["p_value"].notna()
    if len(factor.contrasts) < 2 or not tested.any():
        return ""
    if len(apart):
        return f" Also told apart: {_listed([f'{row.first} from {row.second}' for row in apart.itertuples()])}."
    return f" No other two values of {name} are told apart." if largest["significant"] else ""


def _enough_text(found: Effects, factor: Factor, name: str) -> str:
    chosen = enough(found, factor)
    if chosen is None:
        return ""
    level, best, contrast = chosen
    fewer = 1 - level["trained"] / best["trained"]
    ends = [amount(contrast[end], found.measure, signed=True) for end in ("low", "high")]
    return (
        f" {name} = {level['level']} is not told apart from the best, {name} = {best['level']} "
        f"({_difference(contrast, found.measure)}, 95{NBSP}% interval {ends[0]} to {ends[1]}), and trains "
        f"{percent(fewer)} fewer parameters beside the head{' on average' if found.sets > 1 else ''}."
    )


def _interaction_text(measure: str, found: Interaction) -> str:
    first, second = parameter_name(found.first), parameter_name(found.second)
    effects = [
        f"{amount(value, measure, signed=True)} at {second} = {level}"
        for value, level in zip(found.effects, found.second_levels, strict=True)
    ]
    row = {"difference": found.difference, "p_value": found.p_value, "pairs": found.pairs}
    change = f"from {first} = {found.first_levels[0]} to {found.first_levels[1]}"
    return (
        f"Largest interaction, {first} with {second}: the effect {change} is {_listed(effects)}, a difference of "
        f"{_difference(row, measure)} ({_judged(row)})."
    )


def _largest(factor: Factor) -> pd.Series:
    """The contrast with the largest difference, those told apart before those that are not."""
    order = factor.contrasts.assign(size=factor.contrasts["difference"].abs())
    return factor.contrasts.loc[order.sort_values(["significant", "size"], kind="stable").index[-1]]


def _judged(row: Any) -> str:
    if row["pairs"] == 1:
        return UNTESTED
    if pd.isna(row["p_value"]):
        return "every pair differs by the same, which allows no test"
    beyond = "told apart from noise" if row["p_value"] < SIGNIFICANT else "not told apart from noise"
    return f"p = {row['p_value']:.2g}, {beyond}"


def _difference(row: Any, measure: str) -> str:
    text = amount(row["difference"], measure, signed=True)
    return f"{text} points" if amount(0.0, measure).endswith("%") else text


def _listed(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
