"""Records -> one self-contained HTML page; never trains.

`page` gathers what the template shows, from `sentences` (what the numbers say), `table`, `grids`, `studies` and
`provenance`; `against` compares with an earlier report, `merge` brings the runs of two machines together.
"""

from .page import report_content, write_report
from .sentences import accuracy_description, answer, decomposition_sentence, error_description, learning_description

__all__ = [
    "accuracy_description",
    "answer",
    "decomposition_sentence",
    "error_description",
    "learning_description",
    "report_content",
    "write_report",
]
