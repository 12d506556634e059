"""What the paper prints (Chen, Miao and Qiu, arXiv:2403.00269), its readings, and when a run may stand beside it."""

from ..lazy import lazy_attributes

_MODULES = {
    **dict.fromkeys(("Claim", "Of", "claims", "figure4_claims", "printed_accuracy", "printed_fid"), "printed"),
    **dict.fromkeys(("printed_means", "printed_millions", "row_mean"), "printed"),
    **dict.fromkeys(
        ("READINGS", "Part", "PartReading", "Setting", "check_reading", "find_part", "find_run"), "readings"
    ),
    **dict.fromkeys(
        ("fits", "locate", "method_settings", "parts", "all_readings", "reading_table", "run_of"), "readings"
    ),
    **dict.fromkeys(
        ("Chosen", "SIZES", "check_fits", "check_free", "choose", "settings_of", "tune_settings"), "chosen"
    ),
    **dict.fromkeys(("COUNTED", "architecture", "count_run", "count_settings"), "counts"),
    **dict.fromkeys(("differences", "differing_settings", "matching_reading", "printed_method", "same_task"), "task"),
    **dict.fromkeys(("Effort", "effort_of", "forward_flops"), "effort"),
    **dict.fromkeys(("Row", "Verdict", "claims_of", "paper_overview", "printed_beside"), "overview"),
}
__all__ = sorted(_MODULES)
__getattr__, __dir__ = lazy_attributes(__name__, _MODULES)
