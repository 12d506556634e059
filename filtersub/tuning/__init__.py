"""The method as a peft tuner; importing this package registers it with peft."""

from .config import FilterSubspaceConfig
from .layer import FilterSubspaceLayer
from .model import FilterSubspaceModel, register

register()

__all__ = ["FilterSubspaceConfig", "FilterSubspaceLayer", "FilterSubspaceModel"]
