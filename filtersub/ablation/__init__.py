"""A YAML of stages -> checked runs -> notebooks executed by papermill on Dask -> one folder a run.

`spec` reads the file, `planning` makes its runs, `run` executes them; the rest serves those three. The public names are
loaded when first used: a run's own process imports `notebook_run` alone, and must not bring Dask's threads with it.
"""

from ..lazy import lazy_attributes

_MODULES = {
    "ABLATION_FILE": "folder",
    "AblationSummary": "run",
    "Run": "planning",
    "Spec": "spec",
    "check_folder": "folder",
    "find_notebook": "notebook_contract",
    "is_finished": "run",
    "list_runs": "run",
    "load_spec": "spec",
    "plan": "planning",
    "presets": "spec",
    "read_plan": "folder",
    "run_ablation": "run",
}
__all__ = sorted(_MODULES)
__getattr__, __dir__ = lazy_attributes(__name__, _MODULES)
