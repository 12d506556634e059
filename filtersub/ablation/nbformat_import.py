"""nbformat without a second of work that nobody asked for.

nbformat imports jsonschema, and jsonschema imports rfc3987_syntax where that is installed (JupyterLab brings it), which
compiles a grammar of all addresses of the web at once. Notebooks have no field that is checked by it.
"""

import importlib
import importlib.util
import sys
from types import ModuleType

_GRAMMAR = "rfc3987_syntax"


def import_nbformat() -> ModuleType:
    """nbformat. jsonschema, where this imports it, fetches its grammar of addresses when it first checks one."""
    if "jsonschema" not in sys.modules and _GRAMMAR not in sys.modules and importlib.util.find_spec(_GRAMMAR):
        later = ModuleType(_GRAMMAR)
        later.is_valid_syntax = lambda *given: importlib.import_module(_GRAMMAR).is_valid_syntax(*given)
        sys.modules[_GRAMMAR] = later
        try:
            importlib.import_module("jsonschema")
        finally:
            del sys.modules[_GRAMMAR]  # all others import the whole
    return importlib.import_module("nbformat")
