"""The table: what each feature promises under each fault. The documentation has the same one."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Final

from tests.network.faults import ROWS
from tests.network.scene import Scene

FULL: Final = os.environ.get("TOFU_NETWORK") == "full"

_EVERY_LOOP: Final = ["reactor", "asyncio", *(["uvloop"] if find_spec("uvloop") else [])]
LOOPS: Final = _EVERY_LOOP if FULL else _EVERY_LOOP[:1]

COLUMNS: Final = {
    "heartbeat": "heartbeat",
    "keepalive": "keepalive",
    "reconnecting": "`reconnecting`",
    "deadlines": "deadlines",
    "drain": "drain",
    "send_receive": "`send`, `receive`",
    "streams": "streams",
    "topics": "topics",
}
"""The features: their modules, and how the documentation writes them."""

_UNNOTICED: Final = (
    "stays",
    "stays",
    "same channel",
    "in time",
    "finishes",
    "all",
    "whole",
    "all",
)
_CUT_OFF: Final = (
    "lost",
    "lost",
    "new channel",
    "times out",
    "ends",
    "first part",
    "error",
    "goes on",
)

TABLE: Final = {
    "loss_1": _UNNOTICED,
    "loss_10": _UNNOTICED,
    "delay": _UNNOTICED,
    "slow": _UNNOTICED,
    "reorder": _UNNOTICED,
    "mtu": _UNNOTICED,
    "short_partition": _UNNOTICED,
    "partition": _CUT_OFF,
    "address": _CUT_OFF,
    "nat": _CUT_OFF,
    "power": (*_CUT_OFF[:-1], "begins again"),
}
"""For each fault, what each feature promises: the name of a function in its module."""

SHORT: Final = {
    ("loss_1", "send_receive"),
    ("loss_10", "streams"),
    ("delay", "send_receive"),
    ("slow", "topics"),
    ("reorder", "streams"),
    ("mtu", "deadlines"),
    ("short_partition", "heartbeat"),
    ("partition", "keepalive"),
    ("address", "reconnecting"),
    ("nat", "topics"),
    ("power", "drain"),
}
"""The cells of the short form, in which each fault and each feature occurs."""


@dataclass(frozen=True)
class Cell:
    """One feature under one fault."""

    fault: str
    feature: str
    promise: str

    def __str__(self) -> str:
        return f"{self.feature}-{self.fault}"


def check_of(feature: str, promise: str) -> Callable[[Scene], None]:
    """The function that checks a promise. Its docstring says what is promised."""
    module = import_module(f"tests.network.features.{feature}")
    function: Callable[[Scene], None] = getattr(module, promise.replace(" ", "_"))
    return function


ALL_CELLS: Final = [
    Cell(fault, feature, promise)
    for fault in ROWS
    for feature, promise in zip(COLUMNS, TABLE[fault], strict=True)
]
CELLS: Final = [cell for cell in ALL_CELLS if FULL or (cell.fault, cell.feature) in SHORT]
