"""What the paper prints (Chen, Miao and Qiu, arXiv:2403.00269), its readings, and when a run may stand beside it."""

from ..lazy import lazy_attributes

__all__, __getattr__, __dir__ = lazy_attributes(
    __name__,
    chosen=("Chosen", "SIZES", "check_fits", "check_free", "choose", "settings_of", "tune_settings"),
    counts=("COUNTED", "count_run", "count_settings"),
    effort=("Effort", "effort_of", "forward_flops"),
    overview=("Row", "Verdict", "claims_of", "paper_overview", "printed_beside"),
    printed=(
        "Claim",
        "Of",
        "claims",
        "figure4_claims",
        "printed_accuracy",
        "printed_fid",
        "printed_means",
        "printed_millions",
        "row_mean",
    ),
    readings=(
        "Part",
        "PartReading",
        "READINGS",
        "Setting",
        "all_readings",
        "check_reading",
        "find_part",
        "find_run",
        "fits",
        "locate",
        "method_settings",
        "parts",
        "reading_table",
        "run_of",
    ),
    task=("differences", "differing_settings", "printed_method"),
)
