"""Warm processes for tests of what becomes of processes: each imports what a run needs, not what notebooks import.

Importing this file makes the ablations of the importing process use them; a Dask worker imports it by ``--preload``.
``python tests/light_warm.py [MODULE ...] ADDRESS`` is such a process; it imports the modules named too.
"""

from __future__ import annotations

import sys
from functools import partial

from filtersub.ablation import warm_process, warm_start

RUNS = (
    *("papermill", "nbformat", "nbconvert", "ipykernel.kernelapp", "ipykernel.ipkernel"),
    *("filtersub.ablation.notebook_run", "filtersub.ablation.notebook_html", "filtersub.records"),
)

if __name__ == "__main__":
    sys.path.pop(0)  # this folder, which no kernel would look into
    *named, address = sys.argv[1:]
    warm_process.preload = partial(warm_process.preload, (*RUNS, *named))
    sys.exit(warm_process.main([address]))
else:
    warm_start.WarmStart.SERVER = (__file__,)
