"""Every claim, table and figure of the paper: what runs it, what is printed, what each reading gives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from ..data import n_classes
from ..parameters.readings import head_of
from ..parameters.readings import preset as printed_figure
from ..parameters.result import ParameterCount
from .counts import count_run
from .printed import Claim, Of, claims, printed_means, row_mean
from .readings import READINGS, check_reading, find_run, fits, run_of

AGREES, DIFFERS, UNKNOWN = "agrees", "differs", "cannot be known"


@dataclass(frozen=True)
class Verdict:
    """What a reading gives for a claim."""

    verdict: str  # AGREES, DIFFERS or UNKNOWN
    computed: str = ""  # the figure in the printed unit, empty where a run is needed
    trained: int | None = None  # trained parameters, None where the claim is of none
    why: str = ""  # what differs, or what is not known


@dataclass(frozen=True)
class Row:
    """A claim, the command that runs or computes it, and the verdict of each reading."""

    claim: Claim
    commands: dict[str, str]
    verdicts: dict[str, Verdict]

    def to_json(self) -> dict[str, Any]:
        found = {"where": self.claim.where, "claim": self.claim.claim, "printed": self.claim.printed}
        for reading, verdict in self.verdicts.items():
            found[reading] = {**vars(verdict), "command": self.commands[reading]}
        return found


def paper_overview(readings: tuple[str, ...] = READINGS) -> list[Row]:
    """A row a claim, in the paper's order. Counts come from layer shapes; nothing is trained or drawn.

    Raises FiltersubError for unknown readings.
    """
    for reading in readings:
        check_reading(reading)
    return [
        Row(claim, {r: command(claim, r) for r in readings}, {r: verdict(claim, r) for r in readings})
        for claim in claims()
    ]


def verdict(claim: Claim, reading: str) -> Verdict:
    """What ``reading`` gives for the claim."""
    if claim.needs_run:
        return Verdict(UNKNOWN, why="needs the run")
    return _RULES[claim.measure](claim, reading)


def command(claim: Claim, reading: str) -> str:
    """The command that runs a claim, counts it, or, for printed cells, compares them."""
    if claim.of is None:
        return "filtersub paper"
    part, _ = find_run(claim.of.run)
    if claim.needs_run:
        name = claim.preset or part.preset
        return f"filtersub ablate {name} --reading {reading} --out reports/{name}-{reading}"
    sizes = "".join(f" --{name.replace('_', '-')} {value}" for name, value in claim.of.sizes.items())
    return f"filtersub count --paper {claim.of.run} --reading {reading}{sizes}"


def printed_beside(values: Mapping[str, Any], trainable: int) -> tuple[str, Verdict] | None:
    """(printed count, what a run's own count gives in its place) for a run of Table 1 or 2; None for any other run.

    ``values`` are the run's settings, by the names of TuneSettings; ``trainable`` its trained parameters, head apart.
    """
    for claim in claims():
        if claim.measure != "parameters" or claim.of is None or claim.of.part not in ("table1", "table2"):
            continue
        part, run = find_run(claim.of.run)
        data = str(values.get("data"))
        if data not in part.data or not fits(part, str(values.get("model"))) or run_of(part, values) != run:
            continue
        if part.name == "table1" or printed_figure(claim.figure).classes == n_classes(data):
            return claim.printed, _in_frame(claim.figure, trainable)
    return None


def claims_of(parts: Sequence[str], reading: str) -> list[Row]:
    """Rows of paper_overview on trained parameters of these parts, by one reading."""
    counted = [c for c in claims() if not c.needs_run and c.of is not None and c.of.part in parts]
    return [Row(claim, {reading: command(claim, reading)}, {reading: verdict(claim, reading)}) for claim in counted]


def _figure(claim: Claim, reading: str) -> Verdict:
    """A printed count or share, by the reading's own parameters."""
    return _in_frame(claim.figure, _count(claim.of, reading, printed_figure(claim.figure).classes).trainable)


def _in_frame(figure: str, trainable: int) -> Verdict:
    """Trained parameters without a head in the frame (model, classes, head, unit) of a printed figure."""
    frame = printed_figure(figure)
    from ..parameters import architecture

    module = architecture(frame.model, frame.classes)
    head = head_of(module, frame) if frame.with_head else 0
    trained, total = trainable + head, sum(p.numel() for p in module.parameters())
    value = Decimal(trained) / 1_000_000 if frame.unit == "M" else Decimal(100 * trained) / total
    return _compared(value, frame.printed, trained)


def _increase(claim: Claim, reading: str) -> Verdict:
    """All that a run trains relative to another one, the head of 100 classes included."""
    ours, theirs = (_count(side, reading, 100) for side in (claim.of, claim.less))
    more, fewer = ours.trainable + ours.head, theirs.trainable + theirs.head
    if not claim.expect:
        return _compared(100 * (Decimal(more) / fewer - 1), claim.printed.split()[0], ours.trainable)
    said = f"{ours.trainable:,} against {theirs.trainable:,}"
    part, run = find_run(claim.less.run)
    rank = part.rule(run, reading).get("rank")
    if rank is not None and rank.is_free:
        return Verdict(UNKNOWN, said, ours.trainable, f"the rank of LoRA is not printed; this is rank {rank.value}")
    agrees = (more > fewer) == (claim.expect == "more")
    return Verdict(AGREES if agrees else DIFFERS, said, ours.trainable)


def _few(claim: Claim, reading: str) -> Verdict:
    """A count that the printed words bound."""
    trained = _count(claim.of, reading, 100).trainable
    least, most = claim.between
    agrees = least <= trained <= most
    why = "" if agrees else f"{claim.printed} is read as {least:,} to {most:,}; blocks of channels train far more"
    return Verdict(AGREES if agrees else DIFFERS, f"{trained:,}", trained, why)


def _atoms(claim: Claim, reading: str) -> Verdict:
    """Atoms of a layer, m m_1."""
    part, run = find_run(claim.of.run)
    sizes = {**part.runs[run], **claim.of.sizes}
    return _compared(Decimal(sizes["atoms"] * sizes["expansion"]), claim.printed)


def _mean(claim: Claim, reading: str) -> Verdict:
    """The mean of printed cells; the same in every reading."""
    exact = row_mean(claim.table, claim.method, claim.sets)
    found = _compared(exact, claim.printed)
    half = Decimal("0.05") + Decimal(1).scaleb(-_decimals(claim.printed)) / 2  # of a cell, and of the printed mean
    if found.verdict == DIFFERS:
        within = abs(exact - Decimal(claim.printed)) <= half
        why = "by less than its cells' own rounding" if within else "by more than its cells' rounding explains"
        return replace(found, why=why)
    return found


def _gap(claim: Claim, reading: str) -> Verdict:
    """The difference of two printed means, in points."""
    means = {method: Decimal(str(round(100 * value, 2))) for method, value in printed_means(claim.table).items()}
    return _compared(means[claim.method] - means[claim.other], claim.printed)


_RULES = {
    "parameters": _figure,
    "trained": _increase,
    "trained_count": _few,
    "atoms": _atoms,
    "mean": _mean,
    "gap": _gap,
}


def _count(of: Of, reading: str, classes: int | None) -> ParameterCount:
    part, run = find_run(of.run)
    return count_run(part, run, reading, classes=classes, **of.sizes)


def _compared(value: Decimal, printed: str, trained: int | None = None) -> Verdict:
    """Rounded to the printed digits, half up."""
    rounded = value.quantize(Decimal(1).scaleb(-_decimals(printed)), ROUND_HALF_UP)
    return Verdict(AGREES if rounded == Decimal(printed) else DIFFERS, str(rounded), trained)


def _decimals(printed: str) -> int:
    return len(printed.partition(".")[2])
