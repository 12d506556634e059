"""One run, from settings to record: load, decompose, inject, train, judge, save, write down.

`settings` says what determines a run, `run` makes it, `decomposition` is its counterpart without training, and `tuned`
reads back what a run has saved.
"""

from ..lazy import lazy_attributes

_MODULES = {
    "METHODS": "settings",
    "PROGRESS_FILE": "log",
    "TuneSettings": "settings",
    "decompose_run": "decomposition",
    "load_tuned": "tuned",
    "settings_among": "settings",
    "tune": "run",
}
__all__ = sorted(_MODULES)
__getattr__, __dir__ = lazy_attributes(__name__, _MODULES)
