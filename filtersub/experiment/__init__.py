"""One run, from settings to record: load, decompose, inject, train, judge, save, write down.

`settings` says what determines a run, `run` makes it, `decomposition` is its counterpart without training, and `tuned`
reads back what a run has saved.
"""

from ..lazy import lazy_attributes

__all__, __getattr__, __dir__ = lazy_attributes(
    __name__,
    decomposition=("decompose_run",),
    log=("PROGRESS_FILE",),
    run=("tune",),
    settings=("METHODS", "TuneSettings", "settings_among"),
    tuned=("load_tuned",),
)
