"""Fuzzes the compiled decoder against the one in Python, guided by what that one reaches.

``python -m tests.core.fuzzing 600`` goes on for so many seconds. Needs atheris. The decoder in
Python takes the same turns as the compiled one, so its coverage guides the search.
"""

from __future__ import annotations

import sys
from typing import Any, Final

import atheris

with atheris.instrument_imports(include=["tofu_aio.protocol"]):
    from tofu_aio.protocol.decoder import Decoder

from tests.core.decoding import STATES, Operation, Setting, compare
from tofu_aio.core import WHY_PLAIN
from tofu_aio.protocol.binary_header import HEADER, MAX_MESSAGE_ID
from tofu_aio.protocol.lifecycle import State
from tofu_aio.protocol.op_code import MORE_BIT, OpCode
from tofu_aio.protocol.status import LEFT
from tofu_aio.protocol.withdrawal import WITHDRAWAL

assert Decoder is not None

IDS: Final = (1, 2, 3, 0, MAX_MESSAGE_ID)
PROTOS: Final = (0, 1, 2, MORE_BIT, 1 | MORE_BIT, WITHDRAWAL, *map(int, OpCode))
TEXTS: Final = (b"", b"", b"", b"a:1\r\n", b"bad")
LENGTHS: Final = (0, 1, 24, 25, 100)
STEPS: Final = (
    *("feed", "feed", "feed", "feed", "raw", "more", "resume", "release", "drop", "lend", "take"),
    *("give", "feed_neighbour", "wait", "suspend", "ask", "part", "sort", "strays", "answer"),
    *("stop_counting", "close"),
)


def _frames(source: Any) -> bytes:
    """Some frames, right or wrong, and perhaps only a part of the last."""
    data = b""
    for _ in range(source.ConsumeIntInRange(1, 5)):
        text = TEXTS[source.ConsumeIntInRange(0, len(TEXTS) - 1)]
        body = bytes(LENGTHS[source.ConsumeIntInRange(0, len(LENGTHS) - 1)])
        data += HEADER.pack(
            9,
            PROTOS[source.ConsumeIntInRange(0, len(PROTOS) - 1)],
            (0, 0, LEFT, 255)[source.ConsumeIntInRange(0, 3)],
            IDS[source.ConsumeIntInRange(0, len(IDS) - 1)],
            len(text),
            len(body),
        )
        data += text + body
    return data[: len(data) - source.ConsumeIntInRange(0, 20)]


def _step(source: Any) -> Operation:
    """One operation of ``decoding.Side``."""

    def number(most: int) -> int:
        return int(source.ConsumeIntInRange(0, most))

    name = STEPS[number(len(STEPS) - 1)]
    match name:
        case "feed":
            return "feed", _frames(source), number(3), (None, 1, 2, 3, 32)[number(4)]
        case "raw":
            return "feed", source.ConsumeBytes(number(40)), number(3), None
        case "more" | "lend" | "release" | "drop":
            return name, number(6)
        case "resume":
            return name, number(4), number(4)
        case "feed_neighbour":
            return name, HEADER.pack(9, 0, 0, 1, 0, 0) * number(3)
        case "ask":
            return name, number(2), IDS[number(len(IDS) - 1)]
        case "part":
            return name, IDS[number(2)], (0, 10, 100)[number(2)]
        case "answer":
            return name, number(len(STATES) - 1), IDS[number(len(IDS) - 1)]
    return (name,)


def one(data: bytes) -> None:
    """What atheris calls with bytes that it makes up."""
    source = atheris.FuzzedDataProvider(data)
    setting = Setting(
        pool=(None, 1, 2, 4, 40)[source.ConsumeIntInRange(0, 4)],
        unit=(16, 40, 41, 1 << 62)[source.ConsumeIntInRange(0, 3)],
        share=(1.0, 0.5, 0.01)[source.ConsumeIntInRange(0, 2)],
        state=(State.OPEN, State.OPEN, *STATES)[source.ConsumeIntInRange(0, len(STATES) + 1)],
        number=(7, None)[source.ConsumeIntInRange(0, 1)],
        exempt=source.ConsumeBool(),
        shared=source.ConsumeBool(),
        heartbeats=(None, False, True)[source.ConsumeIntInRange(0, 2)],
        withdrawals=source.ConsumeBool(),
    )
    compare(setting, [_step(source) for _ in range(source.ConsumeIntInRange(1, 12))])


def main(arguments: list[str]) -> None:
    """Fuzz. A difference ends it with a traceback, and leaves a file ``crash-...``."""
    if WHY_PLAIN:
        sys.exit(f"there is nothing to compare: {WHY_PLAIN}")
    seconds = arguments[0] if arguments else "600"
    options = [f"-max_total_time={seconds}", "-max_len=4096", "-len_control=10"]
    atheris.Setup([sys.argv[0], *options, *arguments[1:]], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
