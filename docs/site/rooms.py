"""The rooms of the package that have a page in the API reference, and their public names."""

from __future__ import annotations

import inspect
from importlib import import_module

ROOMS = (
    "filtersub",
    *("filtersub.decomposition", "filtersub.sparse_coding", "filtersub.dictionary", "filtersub.diagnostics"),
    *("filtersub.tuning", "filtersub.methods", "filtersub.training", "filtersub.experiment"),
    *("filtersub.models", "filtersub.weight_file", "filtersub.data", "filtersub.parameters", "filtersub.ranking"),
    *("filtersub.ablation", "filtersub.records", "filtersub.collect", "filtersub.tables", "filtersub.studies"),
    *("filtersub.plots", "filtersub.report", "filtersub.paper"),
    *("filtersub.generation", "filtersub.metrics", "filtersub.attribution", "filtersub.explore"),
    *("filtersub.explore_widgets", "filtersub.files", "filtersub.progress", "filtersub.errors"),
)


def public_names(room: str) -> list[str]:
    """``__all__`` of a package; what a module without it defines itself."""
    module = import_module(room)
    if hasattr(module, "__all__"):
        return sorted(module.__all__)
    own = [name for name, thing in vars(module).items() if getattr(thing, "__module__", None) == room]
    return sorted(name for name in own if not name.startswith("_"))


def entry(room: str, name: str) -> str:
    """The directive that documents one name."""
    thing = getattr(import_module(room), name)
    if room == "filtersub":  # what it offers is documented where it comes from
        home = ".".join(thing.__module__.split(".")[:2])
        return f"- :py:obj:`{home}.{name}`"
    if inspect.isclass(thing):
        return f".. autoclass:: {room}.{name}\n   :members:\n"
    if inspect.isroutine(thing):
        return f".. autofunction:: {room}.{name}\n"
    return f".. autodata:: {room}.{name}\n   :no-value:\n"
