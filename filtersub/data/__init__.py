"""Data sets by name: the digits that come along, sets on disk in the forms people share, and what is wrong with them.

``names`` says what a name means, ``catalogue`` what is known of the sets described in data/*.yaml. One file a
format opens a set: ``vtab``, ``cifar``, ``folders``, ``csv_lists``, ``hub``. ``load`` makes it tensors, ``check`` looks
at all of it.
"""

from .catalogue import Description, catalogue, is_there
from .check import Report, check_data
from .digits import digits_order
from .load import ImageSplit, first_images, load_data, n_classes
from .names import require_data
from .problems import DataMissing, Problem
from .root import data_root

__all__ = [
    "DATASETS",
    "DataMissing",
    "Description",
    "ImageSplit",
    "Problem",
    "Report",
    "catalogue",
    "check_data",
    "data_root",
    "digits_order",
    "first_images",
    "is_there",
    "load_data",
    "n_classes",
    "require_data",
]


def __getattr__(name: str) -> dict[str, str]:
    if name == "DATASETS":  # read where asked for: importing reads no file
        return {key: described.title for key, described in catalogue().items()}
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
