"""Importing names that need a package which may not be installed."""

from __future__ import annotations

from importlib import import_module
from typing import Final

_EXTRAS: Final = {
    "msgspec": "service",
    "opentelemetry": "tracing",
    "prometheus_client": "metrics",
}
"""The extra that has each package."""


def attribute(module: str, name: str, shown: str) -> object:
    """An attribute of a module.

    Args:
        module: its absolute name.
        name: of the attribute.
        shown: what the program calls it, for the error.

    Raises:
        ImportError: the module needs a package that is not installed. The text names the extra.
    """
    try:
        value: object = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRAS:
            raise
        raise ImportError(
            f"{shown} needs {package}: install it with pip install 'tofu-aio[{_EXTRAS[package]}]'",
            name=error.name,
        ) from error
    return value
