"""``tofu decode``: captured frames as readable lines."""

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
@click.option("--hex", "form", flag_value="hex", help="The input is hexadecimal digits.")
@click.option("--raw", "form", flag_value="raw", help="The input is the bytes as they travel.")
@click.option(
    "--body",
    "shown",
    type=click.IntRange(min=0),
    metavar="BYTES",
    default=32,
    show_default=True,
    help="How much of each body to show.",
)
def decode(*, file: Path, form: str | None, shown: int) -> None:
    """Print captured frames, one a line.

    FILE, or standard input, holds what one side of a connection sent: raw bytes, or hexadecimal
    digits with any blanks, line ends and colons between them. Unless told, it is seen from the
    start which of the two. A line begins with the frame's offset in bytes. Frames are printed as
    they come, and memory stays constant however many there are.

    \b
    Examples:
      tofu decode capture.bin
      echo 0007 0000 0000000000000001 0000 0002 6869 | tofu decode
      tofu decode --hex --body 65535 frames.txt

    Exit code 0 says that all of it is frames; 1 that it is not, and one line on stderr at which
    offset and why. The frames before that are printed.
    """  # noqa: D301 - \b is click's mark for lines to be left as they are
    decoder = Decoder(None, State.OVERHEARD)
    offset = 0
    with FileIO(_STDIN, closefd=False) if str(file) == "-" else FileIO(file) as source:
        for data in _frames_bytes(source, form):
            lines = []
            for message in decoder.feed(data):
                lines.append(f"{offset:>8}  {_line(message, shown)}\n")
                offset += HEADER_SIZE + len(message.headers.encode()) + len(message.body)
            click.echo("".join(lines), nl=False)
            if decoder.violation is not None:
                raise Failure(f"no frame {decoder.violation}")
    if decoder.held:
        raise Failure(f"at byte {offset}: the last frame ends early, after {decoder.held} bytes")


def _frames_bytes(source: FileIO, form: str | None) -> Iterator[bytes]:
    """The bytes of the frames, as they become available."""
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
