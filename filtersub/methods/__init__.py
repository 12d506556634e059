"""The method and its rivals through one door: a name and its options in, a model that trains what it should out."""

from .injection import Injected, inject, merged
from .options import METHODS, Method, MethodOptions
from .support import Trial, support_table, try_adapter

__all__ = [
    "METHODS",
    "Injected",
    "Method",
    "MethodOptions",
    "Trial",
    "inject",
    "merged",
    "support_table",
    "try_adapter",
]
