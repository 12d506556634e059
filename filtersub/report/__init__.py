"""Records -> one self-contained HTML page; never trains.

`page` gathers what the template shows, from `sentences` (what the numbers say), `table`, `grids`, `studies` and
`provenance`; `against` compares with an earlier report, `merge` brings the runs of two machines together.
"""

from ..lazy import lazy_attributes

_MODULES = {
    "accuracy_description": "sentences",
    "answer": "sentences",
    "convergence_sentence": "sentences",
    "decomposition_sentence": "sentences",
    "error_description": "sentences",
    "learning_description": "sentences",
    "report_content": "page",
    "write_report": "page",
}
__all__ = sorted(_MODULES)
__getattr__, __dir__ = lazy_attributes(__name__, _MODULES)
