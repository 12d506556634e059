"""The method and its rivals through one door: a name and its options in, a model that trains what it should out."""

from ..lazy import lazy_attributes

_MODULES = {
    "Injected": "injection",
    "METHODS": "options",
    "Method": "options",
    "MethodOptions": "options",
    "Trial": "support",
    "inject": "injection",
    "merged": "injection",
    "support_table": "support",
    "try_adapter": "support",
}
__all__ = sorted(_MODULES)
__getattr__, __dir__ = lazy_attributes(__name__, _MODULES)
