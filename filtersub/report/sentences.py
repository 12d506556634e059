"""What a report says in words: the finding with its uncertainty, and what each figure shows."""

from typing import Any

import pandas as pd

from .. import plots
from ..collect import ATOM_FAMILIES, COEFFICIENTS, OTHER, settings_table
from ..intervals import (
    INTERVALS,
    PAIRED_TEST,
    SIGNIFICANT,
    TEST,
    Difference,
    difference,
    holm,
    paired_difference,
    points,
)
from ..percentages import NBSP
from ..printable import counted
from .numbers import percent, span
from .over_tasks import over_tasks

NOTHING = "No record is there yet, so the question stays open."
_CONTROLS = ("head only", COEFFICIENTS, "full tuning")
_MOST_TASKS = 3  # told one by one
_AGAINST = {
    "full": " Against full tuning it is {gap}.",
    "coefficients": " With the coefficients trained too, a control, {label} {outcome}; against it frozen coefficients "
    "are {gap}.",
    "other": " The most accurate of the other methods, {label}, {outcome}; against it the atoms are {gap}.",
}


def answer(settings: pd.DataFrame, interval: str = "t") -> str:
    """The finding in a few sentences, uncertainty and number of seeds named; says so where the runs allow none.

    Parameters
    ----------
    settings : collect.settings_table, made with the same kind of ``interval``
    """
    if settings.empty:
        return NOTHING
    if settings["task"].nunique() == 1:
        return _answer(settings, interval)
    means = over_tasks(settings, interval)
    if means.empty:
        return _answer_by_task(settings, interval)
    text = _answer(means, interval)
    left_out = settings["method_label"].nunique() - len(means)
    tasks = len(means["by_seed"].iloc[0])
    rest = f" {left_out} more, run on fewer tasks, stand in the table." if left_out else ""
    return f"Means over {tasks} tasks that {len(means)} settings were run on.{rest} {text}"


def _answer(settings: pd.DataFrame, interval: str) -> str:
    """The answer for settings that compare: of one task, or as means over several."""
    parts = compared(settings, interval)
    atoms = parts.get("atoms")
    if atoms is None:
        none = " No run tunes filter atoms." if set(settings["family"]) - {OTHER} else ""
        return _best_text(settings, interval) + _told_apart_text(settings, "settings") + none
    share = atoms["trainable"] / atoms["total"]
    tried = int(settings["family"].isin(ATOM_FAMILIES).sum())
    best = f"The most accurate of the {tried} atom settings tried" if tried > 1 else "The one atom setting tried"
    text = (
        f"{best}, {atoms['label']}, trains {atoms['trainable']:,} atom parameters ({percent(share)} of the model's "
        f"{plots.short_count(atoms['total'])}) and a head of {atoms['head']:,}, "
        f"and reaches {percent(atoms['test_accuracy'])} test accuracy ({atoms['spread']})"
    )
    others = []
    if "head" in parts:
        others.append(f"{percent(parts['head']['test_accuracy'])} when the head alone is trained")
    if "full" in parts:
        trained = f"{plots.short_count(parts['full']['trained'])} parameters"
        others.append(f"{percent(parts['full']['test_accuracy'])} when all {trained} are")
    text += f", against {' and '.join(others)}." if others else "."
    if {"head", "full"} <= set(parts):
        gap = parts["full"]["test_accuracy"] - parts["head"]["test_accuracy"]
        if gap > 0:
            closed = (atoms["test_accuracy"] - parts["head"]["test_accuracy"]) / gap
            way = f"{100 * closed:.0f}{NBSP}% of the way from the one to the other"
            text += f" That is {way if closed >= 0 else 'less than the head alone reaches, on average'}."
    text += _told_apart_text(settings[settings["family"].isin(ATOM_FAMILIES)], "atom settings")
    for name, words in _AGAINST.items():
        if name in parts:
            text += words.format(**parts[name], gap=_difference_text(atoms, parts[name]), outcome=_outcome(parts[name]))
    return text


def _best_text(settings: pd.DataFrame, interval: str) -> str:
    best = settings.loc[settings["test_accuracy"].idxmax()]
    most = f"The most accurate of the {len(settings)} settings tried" if len(settings) > 1 else "The one setting tried"
    name = best["method_label"] if best["task"] else best["label"]  # the text names the task
    return f"{most}, {name}, reaches {percent(best['test_accuracy'])} ({spread_text(best, interval)})."


def _told_apart_text(settings: pd.DataFrame, what: str) -> str:
    """How many of the settings are told apart from the most accurate one, and which of the rest trains least."""
    if len(settings) < 2:
        return ""
    best = settings.loc[settings["test_accuracy"].idxmax()]
    others = settings.drop(best.name)
    p_values = holm([_tested(best, row)[0].p_value for _, row in others.iterrows()])
    tested = others.assign(p_value=p_values).dropna(subset=["p_value"])
    if tested.empty:
        return f" Whether it differs from the other {what} by more than noise is not known: too few {_unit(best)}s."
    same = tested[tested["p_value"] >= SIGNIFICANT]
    if same.empty:
        where = "" if _unit(best) == "task" else " that were run with several seeds"
        return f" It is told apart from all other {what}{where} (Holm-corrected, 5{NBSP}%)."
    least = same.loc[same["trained"].idxmin()]
    fewer = least["trained"] < best["trained"]
    corrected = f"(Holm-corrected, 5{NBSP}%)"
    if len(same) == 1:
        which = ", which trains fewer parameters" if fewer else ""
        return f" It is not told apart from {least['label']}{which} {corrected}."
    count = f"{len(same)} of the {len(tested)} other {what}" if len(same) < len(tested) else f"any of the other {what}"
    few = f"; of these {least['label']} trains the fewest parameters" if fewer else ""
    return f" It is not told apart from {count} {corrected}{few}."


def compared(settings: pd.DataFrame, interval: str = "t") -> dict[str, dict[str, Any]]:
    """The settings that the answer compares, as far as they are there: ``head``, the best ``atoms``, the best control
    that trains their ``coefficients`` too, the best of the ``other`` methods, ``full``. Of several tasks the means over
    those that they were run on; empty where no two settings share two tasks."""
    if len(settings) and settings["task"].nunique() > 1:
        settings = over_tasks(settings, interval)
    if settings.empty:
        return {}
    groups = {
        "head": settings[settings["family"] == "head only"],
        "atoms": settings[settings["family"].isin(ATOM_FAMILIES)],
        "coefficients": settings[settings["family"] == COEFFICIENTS],
        "other": settings[~settings["family"].isin([*ATOM_FAMILIES, *_CONTROLS])],
        "full": settings[settings["family"] == "full tuning"],
    }
    best = {name: rows.loc[rows["test_accuracy"].idxmax()] for name, rows in groups.items() if len(rows)}
    return {name: {**row.to_dict(), "spread": spread_text(row, interval)} for name, row in best.items()}


def spread_text(setting: Any, interval: str = "t") -> str:
    """The number of seeds, or of tasks, their range, and the interval of the mean by its name."""
    count = len(setting["seeds"])
    if count == 1:
        return "one seed, so its spread is not known"
    seen = f"mean of {count} {_unit(setting)}s, {span(setting['lowest'], setting['highest'])}"
    return f"{seen}; {INTERVALS[interval]} {span(setting['low'], setting['high'])}"


def _outcome(setting: dict[str, Any]) -> str:
    return (
        f"trains {setting['trainable']:,} parameters beside the head and reaches "
        f"{percent(setting['test_accuracy'])} ({setting['spread']})"
    )


def _difference_text(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    found, test = _tested(ours, theirs)
    said = f"{points(found.difference)} points"
    if not found.tested:
        several = min(len(ours["seeds"]), len(theirs["seeds"])) > 1
        why = f"every {_unit(ours)} differs by the same" if several else "one seed"
        return f"{said} ({why}, so whether that is noise is not known)"
    beyond = "beyond noise" if found.p_value < SIGNIFICANT else f"not beyond the noise of these {_unit(ours)}s"
    ends = f"95{NBSP}% interval {points(found.low)} to {points(found.high)}, {test}, p = {found.p_value:.2g}"
    return f"{said} ({ends}: {beyond}{_wins(ours, theirs)})"


def _wins(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """On how many tasks the one is higher; nothing is told of seeds."""
    if _unit(ours) == "seed":
        return ""
    wins = sum(one > other for one, other in zip(ours["by_seed"], theirs["by_seed"], strict=True))
    return f"; higher on {wins} of {len(ours['by_seed'])} tasks"


def _unit(setting: Any) -> str:
    """What a mean is taken over: seeds, or tasks in over_tasks.over_tasks."""
    return setting.get("unit", "seed")


def _tested(ours: Any, theirs: Any) -> tuple[Difference, str]:
    """The difference of two settings and its test: paired over the seeds that both were run with where there are two,
    else Welch's."""
    other = dict(zip(theirs["seeds"], theirs["by_seed"], strict=True))
    gaps = [value - other[seed] for seed, value in zip(ours["seeds"], ours["by_seed"], strict=True) if seed in other]
    if len(gaps) > 1:
        return paired_difference(gaps), f"{PAIRED_TEST} over {len(gaps)} {_unit(ours)}s"
    return difference(ours["by_seed"], theirs["by_seed"]), TEST


def _answer_by_task(settings: pd.DataFrame, interval: str) -> str:
    """The most accurate setting of each of the first tasks, for tasks that no two settings share two of."""
    tasks = list(settings.groupby("task", sort=False))
    texts = []
    for task, rows in tasks[:_MOST_TASKS]:
        texts.append(f"On {task}: {_best_text(rows, interval)}{_told_apart_text(rows, 'settings')}")
    rest = len(tasks) - _MOST_TASKS
    more = [f"{rest} more task{'s' if rest > 1 else ''}: see the table."] if rest > 0 else []
    none = f"{len(tasks)} tasks, no two settings of which were run on two of them, so each task stands by itself."
    return " ".join([none, *texts, *more])


def decomposition_sentence(curve: pd.DataFrame) -> str:
    """How well m atoms rebuild the kernels, at the smallest and the largest m; empty without a decomposition."""
    if curve.empty:
        return ""
    median = curve.groupby("m")["relative_error"].median()
    few, many = median.index.min(), median.index.max()
    found = (
        f"Over {counted(curve['name'].nunique(), 'layer')} the median relative error of a kernel rebuilt from its atoms"
    )
    if few == many:
        return f"{found} is {percent(median[few])} at m = {few}."
    return f"{found} falls from {percent(median[few])} at m = {few} to {percent(median[many])} at m = {many}."


def coding_words(recipe: Any) -> str:
    """The solver of a DecompositionConfig with its l, where it pays a penalty: ``lasso at l = 0.001``, ``pca``."""
    return f"{recipe.solver} at l = {recipe.l1_penalty:g}" if recipe.code_kind == "penalty" else recipe.solver


def other_coding(recipe: Any) -> str:
    """What to change in the coding of a DecompositionConfig: its penalty, or a solver that pays none."""
    if recipe.code_kind == "penalty":
        return f"a penalty other than l = {recipe.l1_penalty:g} (at l = 0 coefficients are dense, errors smaller)"
    return f"another solver than {recipe.solver}, which pays no penalty (lasso has sparse coefficients)"


def seed_sentence(recipe: Any) -> str:
    """What one seed of a DecompositionConfig says of others: nothing, but for linear codes, which draw nothing."""
    if recipe.code_kind == "linear":
        return f"Nothing is drawn for {recipe.solver}, so every seed gives the same."
    drawn = "initial atoms" if recipe.learns_atoms else "coefficients"
    return (
        f"This is one seed ({recipe.seed}) of the {drawn}, so the spread over seeds is not known from this run alone."
    )


def convergence_sentence(rounds: pd.DataFrame, layers: pd.DataFrame) -> str:
    """How many layers met the tolerance, how far the curves of plots.convergence go, and what all starts took together.

    Parameters
    ----------
    rounds : convergence.csv of a decomposition: name, round; layers : its layers.csv: converged, iterations
    """
    last = rounds.groupby("name")["round"].max()
    if last.max() == 0 and layers["iterations"].max() == 0:  # by pca, say
        return "Every layer was solved in closed form, without rounds."
    return (
        f"{layers['converged'].sum()} of {counted(len(layers), 'layer')} met the tolerance. The kept start of the "
        f"slowest layer coded all its kernels {last.max():,} times after the first, that of the median layer "
        f"{last.median():,.0f} times; all starts and parts together took "
        f"{layers['iterations'].min():,} to {layers['iterations'].max():,} rounds a "
        f"layer, median {layers['iterations'].median():,.0f}."
    )


def accuracy_description(runs: pd.DataFrame) -> str:
    """In words what plots.accuracy_vs_parameters shows."""
    settings = settings_table(runs)
    places = "; ".join(
        f"{row.label}: {plots.short_count(row.trained)} parameters, {percent(row.test_accuracy)}"
        for row in settings.itertuples()
    )
    front = ", ".join(settings.loc[settings["on_front"], "label"])
    return (
        f"Test accuracy against trained parameters on a logarithmic axis. {places}. "
        f"No setting with as few parameters is more accurate than these: {front}."
    )


def curve_measure(history: pd.DataFrame) -> str | None:
    """The measure that learning curves show: accuracy on test images, or on training images where the test images
    were classified once a run alone; None without either."""
    names = [name for name in ("test_accuracy", "train_accuracy") if name in history]
    epochs = {name: history.loc[history[name].notna(), "epoch"].nunique() for name in names}
    curves = [name for name in names if epochs[name] > 1]
    return next((name for name in curves or names if epochs[name]), None)


def learning_description(history: pd.DataFrame, measure: str = "test_accuracy") -> str:
    """In words what plots.learning_curves shows."""
    last = history.dropna(subset=[measure]).sort_values("epoch").groupby(["label", "seed"], sort=False)[measure].last()
    ends = "; ".join(f"{name}: {percent(value)}" for name, value in last.groupby("label", sort=False).mean().items())
    return f"{measure.replace('_', ' ').capitalize()} after each epoch, a colour a setting. At the end: {ends}."


def error_description(curve: pd.DataFrame) -> str:
    """In words what plots.error_vs_atoms shows."""
    return f"Relative reconstruction error of each layer against the atoms m. {decomposition_sentence(curve)}"


def grid_description(grid: pd.DataFrame, rows: str, columns: str) -> str:
    """In words what plots.setting_grid shows."""
    best = grid.loc[grid["test_accuracy"].idxmax()]
    worst = grid.loc[grid["test_accuracy"].idxmin()]
    places = [f"{rows} = {end['row']}, {columns} = {end['column']}" for end in (worst, best)]
    ends = [f"{percent(end['test_accuracy'])} at {at}" for end, at in zip((worst, best), places, strict=True)]
    return f"Mean test accuracy over {rows} and {columns}, {len(grid)} settings: from {ends[0]} to {ends[1]}."
