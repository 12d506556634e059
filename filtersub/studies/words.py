"""The tables of a study, and what they say in sentences: for readers of a page, and for those who cannot see its
figures.
"""

import os
from dataclasses import asdict
from typing import Any

import pandas as pd

from ..files import as_path
from ..intervals import difference, holm, points
from ..percentages import NBSP, percentage
from ..printable import counted
from ..records import read_record, read_table

_METHODS = {"atoms": "filter atoms", "cp": "CP", "tucker": "Tucker"}
_EXACT = 1e-9  # relative gap below which a solver counts as having reached the optimum


def solver_sentence(table: pd.DataFrame) -> str:
    """Who reached the optimum and who was fastest, spread over seeds named.

    Parameters
    ----------
    table : solvers.csv of a solver_study: solver, seed, relative_gap, kkt_over_penalty, rows_per_second, seconds
    """
    ran = table[table["note"].isna() | (table["note"] == "")]
    worst = ran[ran["solves"] == "penalty"].groupby("solver", sort=False)["relative_gap"].max()
    exact = ran[ran["solver"].isin(worst.index[worst < _EXACT])]
    if exact.empty:
        return f"No solver came within {_EXACT:g} of the smallest objective."
    seconds = exact.groupby("solver")["seconds"].median().sort_values()
    best = ran[ran["solver"] == seconds.index[0]]
    slowest, fastest = best["rows_per_second"].min(), best["rows_per_second"].max()
    rates = f"{slowest:,.0f} to {fastest:,.0f}" if len(best) > 1 else f"{slowest:,.0f}"
    times = (seconds / seconds.iloc[0])[1:]
    others = "; ".join(f"{name} takes {value:.3g} times as long" for name, value in times.items())
    short = worst[worst >= _EXACT]
    missed = ", ".join(f"{name} stops {gap:.1g} above it" for name, gap in short.items())
    text = (
        f"Fastest of the solvers that reach the optimum (to a relative {_EXACT:g}) is {seconds.index[0]}: "
        f"{rates} rows a second over {_seeds(best)}, its largest KKT violation "
        f"{best['kkt_over_penalty'].max():.1g} of l"
    )
    return text + (f"; {others}" if others else "") + (f". At its default tolerance {missed}." if missed else ".")


def penalty_sentence(total: pd.DataFrame, accuracy: pd.DataFrame) -> str:
    """Where the penalty starts to cost error, and what it did to accuracy.

    Parameters
    ----------
    total : total.csv of a penalty_study; accuracy : its accuracy.csv, may be empty
    """
    over = total.groupby("l1_penalty")[["density", "relative_error"]].mean()
    low, high = over.index.min(), over.index.max()
    text = (
        f"At l = {low:g}, the only one, {percentage(over['density'][low])} of the coefficients are not zero, and the "
        f"kernels' relative error is {percentage(over['relative_error'][low])} ({_seeds(total)})."
        if low == high
        else f"From l = {low:g} to l = {high:g} the share of nonzero coefficients falls from "
        f"{percentage(over['density'][low])} to {percentage(over['density'][high])}, and the kernels' relative error "
        f"grows from {percentage(over['relative_error'][low])} to {percentage(over['relative_error'][high])} "
        f"({_seeds(total)})."
    )
    if accuracy.empty:
        return text + " No model was tuned, so the effect on accuracy is not known from this run."
    means = accuracy.groupby("l1_penalty")["test_accuracy"].agg(["mean", "min", "max"])
    parts = "; ".join(f"l = {l1:g}: {percentage(row['mean'])}" for l1, row in means.iterrows())
    several, spread = accuracy["seed"].nunique() > 1, (means["max"] - means["min"]).max()
    known = f"{_seeds(accuracy)}, at most {points(spread, '')} points apart at one l" if several else "one seed"
    if len(means) == 1:
        accuracy = percentage(means["mean"].iloc[0])
        return f"{text} After tuning at l = {means.index[0]:g}, test accuracy is {accuracy} ({known})."
    text += f" After tuning, test accuracy is {parts} ({known})"
    difference = means["mean"].max() - means["mean"].min()
    verdict = ", more than seeds differ" if difference > spread else ", no more than the seeds of one l differ"
    return f"{text}: a difference of {points(difference, '')} points{verdict if several else ''}."


def model_sentence(layers: pd.DataFrame, costs: pd.DataFrame, network: pd.DataFrame, relative_error: float) -> str:
    """What a whole model took, and what it keeps.

    Parameters
    ----------
    layers, costs, network : tables of a model_study; relative_error : over all kernels, of its record
    """
    rounds, seconds = costs["rounds"], costs["learning_seconds"]
    work = "without rounds, since linear codes are direct."
    if rounds.max() > 0:
        met = f"{int(layers['converged'].sum())} of them met the tolerance before the rounds were spent."
        each = f"a layer: {rounds.min()} to {rounds.max()}, median {rounds.median():.0f}"
        work = f"and {int(rounds.sum()):,} rounds of dictionary learning ({each}); {met}"
    text = (
        f"{counted(len(layers), 'layer')} with {counted(int(layers['rows'].sum()), 'kernel')} "
        f"{'was' if len(layers) == 1 else 'were'} decomposed in {seconds.sum():.1f} s "
        f"{work} All kernels together are rebuilt to a relative error of {percentage(relative_error)}."
    )
    if "agreement" not in network:
        return text + " Predictions were not compared: the weights are random, or no images were asked for."
    curve = network.groupby("m")["agreement"].agg(["mean", "min", "max"])
    few, many = curve.index.min(), curve.index.max()
    spread = (curve["max"] - curve["min"]).max()
    known = (
        f"; over {_seeds(network)} it differs by at most {points(spread, '')} points"
        if network["seed"].nunique() > 1
        else ""
    )
    other = f" and on {percentage(curve['mean'][many])} at m = {many}" if many > few else ""
    return text + (
        f" The rebuilt network's prediction agrees with the original's on {percentage(curve['mean'][few])} of the "
        "images at "
        f"m = {few}{other}{known}."
    )


def choice_sentence(choice: pd.DataFrame, max_error: float) -> str:
    """The smallest m of each layer, and of the model, for a relative error.

    Parameters
    ----------
    choice : choice.csv of a model_study: name, m, chosen
    """
    chosen = choice[choice["chosen"]].set_index("name")["m"]
    layers = chosen.drop("(model)", errors="ignore")
    text = (
        f"To meet a relative error of {percentage(max_error)}, layers need m = {layers.min()} to {layers.max()} atoms "
        f"(median {layers.median():.0f})"
    )
    return f"{text}; one m for all meets it over the whole model at {chosen['(model)']}."


def spread_sentence(table: pd.DataFrame, by: str, value: str, what: str) -> str:
    """How far ``value`` differs between seeds at one ``by``: the largest difference, or that it is not known."""
    if table["seed"].nunique() < 2:
        return f"With one seed, the spread of {what} over seeds is not known."
    grouped = table.groupby(by)[value]
    largest = 100 * (grouped.max() - grouped.min()).max()
    return f"Over {_seeds(table)} {what} at one {by} differs by at most {largest:.2f} percentage points."


def storage_sentence(storage: pd.DataFrame) -> str:
    """Filter atoms, CP and Tucker at equal storage: median error over layers, counted both ways."""
    medians = storage.groupby(["counting", "method"], sort=False)["relative_error"].median()
    parts = []
    for counting, words in (("dense", "all coefficients counted"), ("nonzero", "only nonzero ones counted")):
        named = ", ".join(
            f"{percentage(value)} by {_METHODS.get(name, name)}" for name, value in medians[counting].items()
        )
        parts.append(f"{words}: {named}")
    layers = counted(storage["name"].nunique(), "layer")
    return f"Median relative error over {layers} at equal storage, {'; '.join(parts)}."


def sharing_sentence(totals: pd.DataFrame, accuracy: pd.DataFrame) -> str:
    """What sharing costs in error at each m, and in accuracy after tuning, with the spread over seeds."""
    means = totals.pivot_table(index="m", columns="sharing", values=["relative_error", "atom_numbers"])
    parts = [
        f"m = {m}: {percentage(row['relative_error', 'shared'])} instead of {percentage(row['relative_error', 'own'])}"
        for m, row in means.iterrows()
    ]
    last = means.iloc[-1]
    text = (
        f"With shared dictionaries the relative error over all kernels is, at {'; at '.join(parts)}. At the last m "
        f"they hold {last['atom_numbers', 'shared']:,.0f} numbers instead of {last['atom_numbers', 'own']:,.0f}."
    )
    if accuracy.empty:
        return f"{text} No model was tuned."
    paired = accuracy.pivot_table(index="seed", columns="sharing", values="test_accuracy")
    gaps = paired["shared"] - paired["own"]
    ends = f"{points(gaps.min())} to {points(gaps.max())} points"
    known = f"seed by seed from {ends}" if len(gaps) > 1 else "one seed"
    return (
        f"{text} Tuned on the codes of shared dictionaries, test accuracy is {percentage(paired['shared'].mean())} "
        "instead of "
        f"{percentage(paired['own'].mean())} ({known})."
    )


def span_sentence(totals: pd.DataFrame) -> str:
    """The share that atoms could have learnt in each setting at its largest m, and how often that is chance's.

    Parameters
    ----------
    totals : totals.csv of a span_study
    """
    largest = totals[totals["m"] == totals["m"].max()]
    seeds = totals["seed"].nunique()
    over = f"mean and range over {seeds} seeds" if seeds > 1 else "one seed"
    parts = []
    for setting, rows in largest.groupby("setting", sort=False):
        mean, chance = rows["share"].mean(), rows["expected"].mean()
        spread = f" ({percentage(rows['share'].min(), 2)} to {percentage(rows['share'].max(), 2)})" if seeds > 1 else ""
        parts.append(
            f"{setting}: {percentage(mean, 2)}{spread}, {mean / chance:.3g} times the {percentage(chance, 2)} of a "
            "random change"
        )
    return (
        f"Of what full tuning changed in the layers that take part, atoms could have learnt, at m = "
        f"{largest['m'].iloc[0]}, {over}: {'; '.join(parts)}."
    )


def attribution_sentence(summary: pd.DataFrame, differences: pd.DataFrame, images: str, threshold: float) -> str:
    """Whose active area is larger, image by image, and whether seeds agree.

    Parameters
    ----------
    summary, differences : tables of an attribution_study; images and threshold name the rows that are told
    """
    told = summary[(summary["images"] == images) & (summary["threshold"] == threshold)]
    shares = "; ".join(
        f"{row.label} {percentage(row.share)} ({percentage(row.low)} to {percentage(row.high)})"
        for row in told.itertuples()
    )
    text = (
        f"Above {threshold:g} of a map's largest value lie, in the mean over {int(told['n_images'].iloc[0])} images of "
        f"{images} (95{NBSP}% bootstrap interval over images): {shares}."
    )
    own = differences[(differences["images"] == images) & (differences["threshold"] == threshold)]
    return " ".join([text, *(_compared(row) for row in own.itertuples())])


def _compared(row: Any) -> str:
    ends = f"({points(row.low)} to {points(row.high)})"
    if row.low <= 0 <= row.high:
        return f"The images do not tell {row.less} and {row.label} apart: {points(row.difference)} points {ends}."
    word = "larger" if row.difference > 0 else "smaller"
    agree = row.lowest_seed * row.highest_seed > 0
    ranged = f"but seeds differ, from {points(row.lowest_seed)} to {points(row.highest_seed)}"
    seeds = "at every seed alike" if agree else ranged
    gap = f"{points(abs(row.difference), '')} points {ends}"
    return f"That of {row.label} is {word} than that of {row.less} by {gap}, {seeds}."


def _seeds(table: pd.DataFrame) -> str:
    count = table["seed"].nunique()
    return f"{count} seeds" if count > 1 else "one seed"


def study_tables(folder: str | os.PathLike[str]) -> dict[str, pd.DataFrame]:
    """Every table of a run by its name. Raises FiltersubError when the record or one of its tables is missing."""
    return {name: read_table(as_path(folder) / file) for name, file in read_record(folder).tables.items()}


BY_LAYER, FOR_ALL = "by layer", "for all layers"


def allotment_pairs(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a budget: the allotment by layer against the most accurate setting for all layers.

    Columns: budget, by_layer and for_all_layers (mean test accuracies over seeds), trainable_by_layer and
    trainable_for_all, setting (that for all layers), difference with low, high and p_value (Welch's t test over seeds,
    corrected by Holm for the number of budgets; NaN for one seed), seeds. The setting for all layers is chosen by its
    test accuracy, which favours it.
    """
    rows = []
    for budget, group in runs.groupby("budget", sort=False):
        ours, others = group[group["kind"] == BY_LAYER], group[group["kind"] == FOR_ALL]
        best = others.groupby("setting")["test_accuracy"].mean().idxmax()
        theirs = others[others["setting"] == best]
        gap = difference(ours["test_accuracy"].tolist(), theirs["test_accuracy"].tolist())
        row = {"budget": budget, "setting": best, "seeds": ours["seed"].nunique(), **asdict(gap)}
        row |= {"by_layer": ours["test_accuracy"].mean(), "for_all_layers": theirs["test_accuracy"].mean()}
        row |= {"trainable_by_layer": ours["trainable"].iloc[0], "trainable_for_all": theirs["trainable"].iloc[0]}
        rows.append(row)
    table = pd.DataFrame(rows)
    return table.assign(p_value=holm(table["p_value"].tolist()))


def allotment_groups(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs as plots.equal_accuracies takes them: a group a budget, a row a setting, the most accurate first."""
    rows = []
    for number, (budget, group) in enumerate(runs.groupby("budget", sort=False), start=1):
        for (kind, setting), found in group.groupby(["kind", "setting"], sort=False):
            row = {"group": number, "task": "", "method_label": setting, "trainable": budget}
            row |= {"family": "spatial and block atoms" if kind == BY_LAYER else "spatial atoms"}
            accuracies = found["test_accuracy"]
            rows.append({**row, "test_accuracy": accuracies.mean(), "by_seed": accuracies.tolist()})
    table = pd.DataFrame(rows)
    return table.sort_values(["group", "test_accuracy"], ascending=[True, False], ignore_index=True)


def allotment_sentence(pairs: pd.DataFrame) -> str:
    """Budget by budget, how accurate the allotment by layer is and whether the difference is beyond noise."""
    parts = []
    for row in pairs.itertuples():
        told = (
            f"at most {row.budget:,} trained parameters, allotted by layer ({row.trainable_by_layer:,}): "
            f"{percentage(row.by_layer)}, against {percentage(row.for_all_layers)} for {row.setting} "
            f"({row.trainable_for_all:,}), a "
            f"difference of {points(row.difference)} points"
        )
        if pd.isna(row.p_value):
            parts.append(f"{told} (one seed, so whether that is noise is not known)")
            continue
        beyond = "beyond noise" if row.p_value < 0.05 else "not beyond the noise of these seeds"
        ends = f"{points(row.low)} to {points(row.high)}"
        parts.append(f"{told} ({ends}, {row.seeds} seeds, p = {row.p_value:.2g}, {beyond})")
    return f"With {'; with '.join(parts)}."
