"""A YAML of stages -> checked runs -> notebooks executed by papermill on Dask -> one folder a run.

`spec` reads the file, `planning` makes its runs, `run` executes them; the rest serves those three. The public names are
loaded when first used: a run's own process imports `notebook_run` alone, and must not bring Dask's threads with it.
"""

from ..lazy import lazy_attributes

__all__, __getattr__, __dir__ = lazy_attributes(
    __name__,
    folder=("ABLATION_FILE", "check_folder", "read_plan"),
    notebook_contract=("find_notebook",),
    planning=("Run", "plan"),
    run=("AblationSummary", "is_finished", "list_runs", "run_ablation"),
    spec=("Spec", "load_spec", "presets"),
)
