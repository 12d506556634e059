"""Data sets by name: the digits that come along, sets on disk in the forms people share, and what is wrong with them.

``names`` says what a name means, ``catalogue`` what is known of the sets described in data/*.yaml. A file for each
format (``listed``, ``cifar``, ``idx``, ``folders``, ``csv_lists``, ``hub``) opens a set, ``load`` makes it tensors,
``check`` looks at all of it.
"""

from typing import Any

from ..lazy import lazy_attributes
from .catalogue import Description, catalogue, is_there  # at once: the function has its file's name

_names, _load, __dir__ = lazy_attributes(
    __name__,
    catalogue=("data_root",),
    check=("Report", "check_data"),
    digits=("digits_order",),
    load=("ImageSplit", "first_images", "load_data", "usable_source"),
    names=("n_classes",),
    problems=("DataMissing", "Problem"),
)
__all__ = ["DATASETS", "Description", "catalogue", "is_there", *_names]


def __getattr__(name: str) -> Any:
    if name == "DATASETS":  # read where asked for: importing reads no file
        return {key: described.title for key, described in catalogue().items()}
    return _load(name)
