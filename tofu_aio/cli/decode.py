"""``tofu decode``: print captured frames."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Final

import click

from ..protocol.binary_header import HEADER_SIZE
from ..protocol.decoder import Decoder
from ..protocol.lifecycle import State
from ..protocol.message import Message
from ..protocol.op_code import Origin
from ..protocol.status import Status
from .errors import Failure, printable
from .hexadecimal import from_hex, looks_like_hex
from .parameters import PATH

_CHUNK: Final = 64 * 1024
_STDIN: Final = 0


@click.command()
@click.argument("file", type=PATH, default="-")
@click.option("--hex", "form", flag_value="hex", help="Read hexadecimal digits.")
@click.option("--raw", "form", flag_value="raw", help="Read raw bytes.")
@click.option(
    "--body",
    "shown",
    type=click.IntRange(min=0),
    metavar="BYTES",
    default=32,
    show_default=True,
    help="Show at most this much of each body.",
)
def decode(*, file: Path, form: str | None, shown: int) -> None:
    """Print captured frames, one per line.

    FILE holds the data that one side of a connection has sent, either raw or as hexadecimal digits.
    Spaces, line breaks and colons between digits are ignored. The format is detected unless --hex
    or --raw is given. Without FILE, reads standard input.

    Each line starts with the frame's offset in bytes. Frames are printed as they arrive, in
    constant memory.

    \b
    Examples:
      tofu decode capture.bin
      echo 0007 0000 0000000000000001 0000 0002 6869 | tofu decode
      tofu decode --hex --body 65535 frames.txt

    Exit code: 0 if the whole input is valid, 1 if not. In that case a line on stderr gives the
    offset and the reason, and the frames before that offset are printed.
    """  # noqa: D301 - \b tells click not to rewrap the paragraph
    decoder = Decoder(None, State.OVERHEARD)
    offset = 0
    with FileIO(_STDIN, closefd=False) if str(file) == "-" else FileIO(file) as source:
        for data in _raw_bytes(source, form):
            lines = []
            for message in decoder.feed(data):
                lines.append(f"{offset:>8}  {_line(message, shown)}\n")
                offset += HEADER_SIZE + len(message.headers.encode()) + len(message.body)
            click.echo("".join(lines), nl=False)
            if decoder.violation is not None:
                raise Failure(f"invalid frame {decoder.violation}")
    if decoder.held:
        raise Failure(
            f"incomplete frame at byte {offset}: the input ends after {decoder.held} bytes of it"
        )


def _raw_bytes(source: FileIO, form: str | None) -> Iterator[bytes]:
    """Yield the bytes of the frames as they become available."""
    pieces = iter(lambda: source.read(_CHUNK), b"")
    if form is None:
        start = b""
        for piece in pieces:
            start += piece
            if len(start) >= HEADER_SIZE:
                break
        form = "hex" if looks_like_hex(start[:HEADER_SIZE]) else "raw"
        pieces = itertools.chain([start], pieces)
    return from_hex(pieces) if form == "hex" else pieces


def _line(message: Message, shown: int) -> str:
    words = [message.op_code.name, f"id={message.message_id}", f"channel={message.channel_number}"]
    if message.more:
        words.append("more")
    if message.origin is Origin.ENGINE:
        words.append("origin=engine")
    if message.status is not Status.SUCCESS:
        words.append(f"status={message.status.name.lower()}")
    words += [f"[{printable(name)}: {printable(value)}]" for name, value in message.headers.pairs]
    words.append(f"body={len(message.body)}")
    if message.body and shown:
        words.append(repr(message.body[:shown])[1:] + "..." * (len(message.body) > shown))
    return " ".join(words)
