"""The method and its baselines through one door: a name and its options in, a model that trains what it should out."""

from ..lazy import lazy_attributes

__all__, __getattr__, __dir__ = lazy_attributes(
    __name__,
    injection=("Injected", "inject", "merged"),
    options=("METHODS", "Method", "MethodOptions"),
    support=("Trial", "try_adapter"),
)
