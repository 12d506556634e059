"""Records -> one self-contained HTML page; never trains.

`page` gathers what the template shows, from `sentences` (what the numbers say), `table`, `grids`, `studies` and
`provenance`; `against` compares with an earlier report, `merge` brings the runs of two machines together.
"""

from ..lazy import lazy_attributes

__all__, __getattr__, __dir__ = lazy_attributes(
    __name__,
    page=("report_content", "write_report"),
    sentences=(
        "accuracy_description",
        "answer",
        "coding_words",
        "convergence_sentence",
        "decomposition_sentence",
        "error_description",
        "learning_description",
        "other_coding",
        "seed_sentence",
    ),
)
