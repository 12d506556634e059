"""Checks of settings, and settings objects made of smaller ones."""

import functools
import inspect
import math
import numbers
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass, make_dataclass
from typing import Any, ClassVar, TypeVar

from .errors import FiltersubError
from .schema import shown

T = TypeVar("T")
MOST_WORKERS = 1_024  # processes of one machine
MOST_SEED = 2**32 - 1  # that of numpy's global generator
MOST_PIXELS = 8_192  # on a side of an image
MOST = 1_000_000  # of anything that is counted and means something: atoms, epochs, images of a batch


def check_whole(name: str, value: object, least: int, most: int | None = None) -> None:
    """Raises FiltersubError unless a setting is a whole number from ``least`` to ``most``.

    >>> check_whole("steps", 2.5, 1)
    Traceback (most recent call last):
    filtersub.errors.FiltersubError: steps must be a whole number, got 2.5
    """
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise FiltersubError(f"{name} must be a whole number, got {value!r}")
    check_number(name, value, least)
    if most is not None and value > most:
        raise FiltersubError(f"{name} must be at most {most}, got {value}")


def check_number(name: str, value: object, least: float = -math.inf) -> None:
    """Raises FiltersubError unless a setting is a finite number of at least ``least``."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not -math.inf < value < math.inf:
        raise FiltersubError(f"{name} must be a finite number, got {value!r}")
    if value < least:
        raise FiltersubError(f"{name} must {f'be at least {least}' if least else 'not be negative'}, got {value}")


def check_positive(name: str, value: float | None) -> None:
    """Raises FiltersubError unless the value is None or a finite number above zero."""
    if value is not None and not 0 < value < math.inf:
        raise FiltersubError(f"{name} must be a positive number, got {value}")


def check_between(name: str, value: object, low: float, high: float) -> None:
    """Raises FiltersubError unless a setting is a number between two others, which it may not be."""
    check_number(name, value)
    if not low < value < high:
        raise FiltersubError(f"{name} must be between {low} and {high}, got {value}")


def check_switch(name: str, value: object) -> None:
    """Raises FiltersubError unless a setting is true or false: the text "false", as papermill's ``-p`` gives it, counts
    as true in Python.

    >>> check_switch("pretrained", "false")
    Traceback (most recent call last):
    filtersub.errors.FiltersubError: pretrained must be True or False, got 'false'
    """
    if not isinstance(value, bool) and type(value).__name__ not in ("bool_", "bool"):  # numpy's is none of Python's
        raise FiltersubError(f"{name} must be True or False, got {value!r}")


def check_share(name: str, value: float | None) -> None:
    """Raises FiltersubError unless the value is None or a share that can be dropped."""
    if value is not None and not (isinstance(value, numbers.Real) and 0 <= value < 1):
        raise FiltersubError(f"{name} must be at least 0 and below 1, got {value!r}")


def check_digits(name: str, text: str) -> str:
    """The text of a number; FiltersubError for what Python reads as one and few people mean: ``1_0``, or other digits
    than 0 to 9."""
    if "_" in text or not text.isascii():
        raise FiltersubError(f"{name} takes a number in the digits 0 to 9, got {text!r}")
    return text


def check_each(name: str, values: Any, check: Callable[..., None], *bounds: float) -> list[Any]:
    """The values of a list of at least one, each held against ``check(name, value, *bounds)``.

    >>> check_each("steps", [1, 2], check_whole, 1)
    [1, 2]
    >>> check_each("steps", 3, check_whole, 1)
    Traceback (most recent call last):
    filtersub.errors.FiltersubError: steps must be a list of at least one number, got 3
    """
    try:
        found = None if isinstance(values, str | bytes | Mapping) else list(values)
    except TypeError:
        found = None
    if found is None:
        raise FiltersubError(f"{name} must be a list of at least one number, got {values!r}")
    if not found:
        raise FiltersubError(f"{name} is empty; it must be a list of at least one number")
    for value in found:
        check(name, value, *bounds)
    return found


def check_kind(name: str, value: object, kind: type) -> None:
    """Raises FiltersubError unless an argument is a ``kind``, such as a group of settings; its name or its values alone
    are none.

    >>> from filtersub import DecompositionConfig
    >>> check_kind("config", "nope", DecompositionConfig)
    Traceback (most recent call last):
    filtersub.errors.FiltersubError: config must be a DecompositionConfig, got 'nope'; give DecompositionConfig(...)
    """
    if not isinstance(value, kind):
        raise FiltersubError(f"{name} must be a {kind.__name__}, got {shown(value)}; give {kind.__name__}(...)")


def check_labels(labels: Any, n_images: int, n_classes: int) -> list[int]:
    """The classes of images as whole numbers, one an image, from 0 to below ``n_classes``; FiltersubError for others.

    >>> check_labels([0, 3], n_images=2, n_classes=3)
    Traceback (most recent call last):
    filtersub.errors.FiltersubError: label 3 of image 1 is no class: they are 0 to 2
    """
    found = labels.tolist() if hasattr(labels, "tolist") else labels
    if not isinstance(found, list | tuple) or not all(type(label) is int for label in found):
        raise FiltersubError(f"labels must be a list of whole numbers, one an image, got {shown(labels)}")
    if len(found) != n_images:
        raise FiltersubError(f"{len(found)} labels are not one for each of {n_images} images")
    wrong = next((image for image, label in enumerate(found) if not 0 <= label < n_classes), None)
    if wrong is not None:
        raise FiltersubError(f"label {found[wrong]} of image {wrong} is no class: they are 0 to {n_classes - 1}")
    return list(found)


def check_names(name: str, values: Any) -> list[str]:
    """The names of a list; FiltersubError for anything else, one name too, which would be read letter by letter.

    >>> check_names("exclude", "fc")
    Traceback (most recent call last):
    filtersub.errors.FiltersubError: exclude must be a list of names, got 'fc'
    """
    found = [values] if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable) else list(values)
    if found == [values] or not all(isinstance(each, str) for each in found):
        raise FiltersubError(f"{name} must be a list of names, got {shown(values)}")
    return found


def check_types(settings: Any) -> None:
    """Raises FiltersubError unless each number, switch and text of a dataclass is of its field's type.

    A number of numpy becomes one of Python, in place. Fields of tuples and mappings, and what bounds a number and what
    words a text has, are the class's own matter.

    >>> from filtersub.experiment import TuneSettings
    >>> TuneSettings(epochs="6")
    Traceback (most recent call last):
    filtersub.errors.FiltersubError: epochs must be a whole number, got '6'
    """
    for name, kinds in _plain_fields(type(settings)).items():
        value = getattr(settings, name)
        plain = value
        if type(value).__module__ == "numpy" and type(value).__name__ in ("bool", "bool_"):
            plain = bool(value)
        elif type(value) not in (bool, int, float) and isinstance(value, numbers.Real):
            plain = int(value) if isinstance(value, numbers.Integral) else float(value)
        if plain is not value:
            object.__setattr__(settings, name, plain)
        other = any(isinstance(plain, kind) for kind in kinds - {bool, int, float})
        number = type(plain) in kinds or (type(plain) is int and float in kinds)
        if not (other or number):
            words = {bool: "true or false", float: "a finite number", int: "a whole number", str: "text"}
            wanted = next(word for kind, word in words.items() if kind in kinds)
            raise FiltersubError(f"{name} must be {wanted}, got {value!r}")


@functools.cache
def _plain_fields(kind: type) -> dict[str, frozenset[type]]:
    """The types of each field that takes a number, a switch or a text; a list stands for a tuple, as JSON has it."""
    hints = typing.get_type_hints(kind)
    found = {}
    for field in fields(kind):
        parts = typing.get_args(hints[field.name]) or (hints[field.name],)
        kinds = {typing.get_origin(part) or part for part in parts}
        if kinds & {bool, int, float, str}:
            found[field.name] = frozenset(kinds | ({list} if tuple in kinds else set()))
    return found


def select_fields(values: Mapping[str, Any], kind: type[T]) -> T:
    """A dataclass ``kind`` with each field that ``values`` names, the rest at their defaults."""
    return kind(**{each.name: values[each.name] for each in fields(kind) if each.name in values})  # type: ignore[arg-type]


class UsualNumber(float):
    """A setting that was left out and has its usual value: an object of its own, so that dataclasses.replace, which
    gives it back, is told from a user who gives the same number."""


#: attribute of a group: its settings that were left out, and whose values follow from others, each with the very value
#: that stands beside the groups, if one does
_LEFT_OUT = "_left_out"


class Grouped:
    """Settings in groups: a dataclass (init=False, repr=False) some of whose fields are dataclasses of settings.

    The names of its other fields and of its groups' fields make one flat list. By these names settings are made, read,
    changed by dataclasses.replace, printed and recorded; a group may be given whole, too. What a group has in common
    with the settings themselves, such as the seed, it gets from them. ``dataclasses.replace`` finds usual values of
    settings that were left out anew, so that another method gets its own learning rate.

    >>> from filtersub.experiment import TuneSettings
    >>> settings = TuneSettings(atoms=6, seed=1)
    >>> settings.recipe.atoms, settings.atoms, settings.training.seed
    (6, 6, 1)
    """

    FLAT: ClassVar[Any]  # a dataclass of the flat names, in the order of records

    def __init_subclass__(cls, flat: tuple[type, ...] = ()) -> None:
        cls.FLAT = make_dataclass(cls.__name__, (), bases=flat or (cls.FLAT,), frozen=True, repr=False, eq=False)
        cls.__signature__ = inspect.signature(cls.FLAT)  # type: ignore[attr-defined]

    def __init__(self, *values: Any, **given: Any) -> None:
        groups, whole, left_out = _groups(type(self)), dict[str, Any](), dict[str, Any]()
        for group in [given.pop(name) for name in groups if name in given]:
            left_out |= getattr(group, _LEFT_OUT, {})
            found = {each.name for each in fields(group)} - left_out.keys()
            for name, value in ((each, getattr(group, each)) for each in found):
                if whole.setdefault(name, value) != value and name not in given:
                    raise FiltersubError(f"{name} is {whole[name]!r} and {value!r} in two groups; give it beside them")
        given = {name: value for name, value in given.items() if name not in left_out or value is not left_out[name]}
        known = {name: value for name, value in whole.items() if name in self.FLAT.__dataclass_fields__}
        flat = whole | vars(self.FLAT(*values, **known | given))
        for each in fields(self):  # type: ignore[arg-type]
            if each.name not in groups:
                object.__setattr__(self, each.name, flat[each.name])
        asked = frozenset(name for name, value in flat.items() if value is None)
        flat |= self._derived(flat)
        for name, kind in groups.items():
            group = select_fields(flat, kind)
            found = {each.name for each in fields(kind) if getattr(group, each.name) is not None}
            if names := asked & found:
                object.__setattr__(group, _LEFT_OUT, {each: vars(self).get(each) for each in names})
            object.__setattr__(self, name, group)
        self.__post_init__()

    def _derived(self, flat: Mapping[str, Any]) -> dict[str, Any]:
        """Settings of the groups that follow from others. The fields that are no groups stand; this checks them."""
        return {}

    def __post_init__(self) -> None:
        """Checks settings against each other; each group has checked itself."""

    def __getattr__(self, name: str) -> Any:
        for group, kind in _groups(type(self)).items():
            if name in kind.__dataclass_fields__:
                return getattr(vars(self)[group], name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.flat.items())})"

    @property
    def flat(self) -> dict[str, Any]:
        """The settings by their flat names."""
        return {each.name: getattr(self, each.name) for each in fields(self.FLAT)}

    @property
    def parameters(self) -> dict[str, Any]:
        """The same as JSON has them: what a record holds."""
        plain = {UsualNumber: float, tuple: list}
        return {name: plain.get(type(value), lambda same: same)(value) for name, value in self.flat.items()}


@functools.cache
def _groups(kind: type) -> dict[str, Any]:
    """The fields that are dataclasses themselves, by name."""
    hints = typing.get_type_hints(kind)
    return {each.name: hints[each.name] for each in fields(kind) if is_dataclass(hints[each.name])}


def difference(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> str:
    """The first setting that differs, `` (batch_norm: 'recomputed', now 'frozen')``; empty where none does."""
    other = next((name for name in [*mine, *theirs] if mine.get(name) != theirs.get(name)), None)
    return "" if other is None else f" ({other}: {theirs.get(other)!r}, now {mine.get(other)!r})"
