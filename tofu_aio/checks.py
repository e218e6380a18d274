"""Checks of options. An error names the option, its value, and what is allowed."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable


def checked_seconds(name: str, value: float, least: float = 0.0, most: float = math.inf) -> float:
    """Check a number of seconds, and return it.

    Raises:
        TypeError, ValueError: as ``checked_number``.
    """
    return checked_number(name, value, least, most, " seconds")


def checked_number(name: str, value: float, least: float, most: float, unit: str = "") -> float:
    """Check a number within bounds, and return it.

    Raises:
        TypeError: it is not a number; True and False do not count as numbers.
        ValueError: it is below ``least``, above ``most``, or nan.
    """
    right = (f"{least:g} or more" if most == math.inf else f"{least:g} to {most:.7g}") + unit
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is {value!r}, not a number: give {right}")
    if not least <= value <= most:  # written like this, it refuses nan too
        raise ValueError(f"{name} is {value!r}: give {right}")
    return value


def checked_count(name: str, value: int, least: int = 1, most: float = math.inf) -> int:
    """Check an integer within bounds, and return it.

    Raises:
        TypeError: it is not an integer; True and False do not count as integers.
        ValueError: it is below ``least``, or above ``most``.
    """
    right = f"{least} or more" if most == math.inf else f"{least} to {most}"
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is {value!r}, not an integer: give {right}")
    if not least <= value <= most:
        raise ValueError(f"{name} is {value}: give {right}")
    return value


def checked_names(call: str, given: Iterable[str], known: Collection[str]) -> None:
    """Check the names of keyword arguments that a function passes on to another.

    Raises:
        TypeError: one of them is unknown.
    """
    for name in given:
        if name not in known:
            raise TypeError(
                f"{call}() got an unexpected keyword argument {name!r}: give one of "
                + ", ".join(sorted(known))
            )


def checked_function(name: str, value: object) -> None:
    """Check that an option is callable.

    Raises:
        TypeError: it is not.
    """
    if not callable(value):
        raise TypeError(f"{name} is {value!r}: give a function")
