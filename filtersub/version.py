"""The version of the installed package, by which results that are kept are told apart."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def package_version() -> str:
    try:
        return version("filtersub")
    except PackageNotFoundError:  # imported from a checkout that was never installed
        return "unknown"
