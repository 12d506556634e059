"""In which parameters records differ: what each was tuned on, and the names that tell their settings apart."""

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from .experiment.settings import WITHOUT_EFFECT
from .printable import counted
from .records import Record
from .setting_fields import TuneFields

#: Parameters that say what is learned, from what and for how long, not how. Only settings alike in them are compared.
TASK = ("data", "model", "weights", "pretrained", "n_train", "image_size", "epochs")


def varying_parameters(records: Iterable[Record]) -> list[str]:
    """Names of the parameters in which these records differ, in the records' order, without the seed and what changes
    nothing that is learned; see completed_parameters."""
    found = [completed_parameters(record) for record in records]
    names = dict.fromkeys(name for parameters in found for name in parameters)
    telling = [name for name in names if name not in WITHOUT_EFFECT | {"seed"}]
    return [name for name in telling if len({repr(parameters.get(name)) for parameters in found}) > 1]


def completed_parameters(record: Record) -> dict[str, Any]:
    """The record's parameters; a tuning record of before a setting existed has its default."""
    known = fields(TuneFields) if record.kind == "tuning" else ()
    return {**record.parameters, **{f.name: f.default for f in known if f.name not in record.parameters}}


def tasks(records: Iterable[Record]) -> list[str]:
    """What each record was tuned on, as far as the records differ in it ("digits, 300 images, 12 epochs"); empty
    strings where they do not differ."""
    records = list(records)
    names = [name for name in varying_parameters(records) if name in TASK]
    return [
        ", ".join(_task_words(name, completed_parameters(record).get(name)) for name in names) for record in records
    ]


def _task_words(name: str, value: Any) -> str:
    match name, value:
        case "n_train", None:
            return "all images"
        case "n_train", _:
            return counted(value, "image")
        case "pretrained", _:
            return "pretrained" if value else "random weights"
        case "weights", None:
            return "the model's own weights"
        case "epochs", _:
            return counted(value, "epoch")
        case "image_size", _:
            return f"{value} pixels"
    return str(value)


def telling_labels(records: Iterable[Record], ignored: Iterable[str] = ()) -> list[str]:
    """The label of each record, with the parameters in which records of one label differ.

    Parameters in ``ignored`` are not told. Nor are those that differ only together with them, such as a learning rate
    of its own for each data set: settings are told apart among records that are alike in ``ignored``.
    """
    records, ignored = list(records), set(ignored)
    groups: dict[str, dict[str, list[Record]]] = {}
    for record in records:
        parameters = completed_parameters(record)
        place = repr([parameters.get(name) for name in sorted(ignored)])
        groups.setdefault(record.label, {}).setdefault(place, []).append(record)
    telling = {
        label: list(dict.fromkeys(name for alike in places.values() for name in varying_parameters(alike)))
        for label, places in groups.items()
    }
    labels = []
    for record in records:
        parameters = completed_parameters(record)
        words = ", ".join(f"{name} {parameters.get(name)}" for name in telling[record.label])
        labels.append(f"{record.label}, {words}" if words else record.label)
    return labels
