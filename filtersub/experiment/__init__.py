"""One run, from settings to record: load, decompose, inject, train, judge, save, write down.

`settings` says what determines a run, `run` makes it, `decomposition` is its counterpart without training, and `tuned`
reads back what a run has saved.
"""

from .decomposition import decompose_run
from .log import PROGRESS_FILE
from .run import tune
from .settings import METHODS, TuneSettings
from .tuned import load_tuned

__all__ = ["METHODS", "PROGRESS_FILE", "TuneSettings", "decompose_run", "load_tuned", "tune"]
