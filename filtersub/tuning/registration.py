"""Makes peft know the method. peft keeps a closed enum of its methods, so an entry is added to it.

The one place that depends on how peft registers methods; tests/test_tuning.py fails loudly when that changes.
"""

from __future__ import annotations

import aenum
from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
from peft.utils import PeftType, register_peft_method

from .config import METHOD, FilterSubspaceConfig
from .layer import PREFIX
from .model import FilterSubspaceModel


def register() -> None:
    """Add the method to peft's tables, once; a config is then saved and loaded by its peft_type."""
    if METHOD.upper() not in PeftType.__members__:
        aenum.extend_enum(PeftType, METHOD.upper(), METHOD.upper())
    if PeftType[METHOD.upper()] not in PEFT_TYPE_TO_TUNER_MAPPING:
        register_peft_method(name=METHOD, config_cls=FilterSubspaceConfig, model_cls=FilterSubspaceModel, prefix=PREFIX)
