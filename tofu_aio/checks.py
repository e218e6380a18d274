"""What an option may be: else an error names it, what it is, and what to give."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable


def checked_seconds(name: str, value: float, least: float = 0.0, most: float = math.inf) -> float:
    """A time that can be waited for.

    Raises:
        As ``checked_number``.
    """
    return checked_number(name, value, least, most, " seconds")


def checked_number(name: str, value: float, least: float, most: float, unit: str = "") -> float:
    """A number within bounds.

    Raises:
        TypeError: it is no number; True and False are none.
        ValueError: it is below ``least``, above ``most``, or nan.
    """
    right = (f"{least:g} or more" if most == math.inf else f"{least:g} to {most:.7g}") + unit
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is {value!r}, no number: give {right}")
    if not least <= value <= most:  # so put, nan fails too
        raise ValueError(f"{name} is {value!r}: give {right}")
    return value


def checked_count(name: str, value: int, least: int = 1, most: float = math.inf) -> int:
    """How many there may be of something.

    Raises:
        TypeError: it is no whole number; True and False are none.
        ValueError: it is below ``least``, or above ``most``.
    """
    right = f"{least} or more" if most == math.inf else f"{least} to {most}"
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is {value!r}, no whole number: give {right}")
    if not least <= value <= most:
        raise ValueError(f"{name} is {value}: give {right}")
    return value


def checked_names(call: str, given: Iterable[str], known: Collection[str]) -> None:
    """Options that a function takes for another, by their names.

    Raises:
        TypeError: one is none of them.
    """
    for name in given:
        if name not in known:
            raise TypeError(
                f"{call}() got an unexpected keyword argument {name!r}: give one of "
                + ", ".join(sorted(known))
            )


def checked_function(name: str, value: object) -> None:
    """Something that can be called.

    Raises:
        TypeError: it cannot.
    """
    if not callable(value):
        raise TypeError(f"{name} is {value!r}: give a function")
