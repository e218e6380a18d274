"""One file over one channel, in constant memory on both sides.

The file travels as one request in parts: REQUEST messages with one message id, all but the last
with ``more``. Text headers say what it is:

==============  ===========================  ================================================
header          on                           value
==============  ===========================  ================================================
File-Name       the first part               the file's name, for people
File-Size       the first part               its size in bytes, decimal
File-SHA256     the last part; the response  SHA-256 of all bodies together, hexadecimal
File-Received   signals; the response        bytes received so far, decimal
==============  ===========================  ================================================

A file of one part has them all in that part. The digest comes last, so that the sender reads the
file once. While it works the receiver sends a SIGNAL now and then, under the request's id: that
tells a slow receiver from a dead one, for between the two the kernels hold megabytes.

The receiver ends with one RESPONSE. With status success, its own digest and count, it says that it
has the whole file; with any other status its body says why not, as text. That may come before the
last part: the sender need not go on then.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Final, TypeAlias

from rich.filesize import decimal

from ..messaging.channel import Channel
from ..protocol.errors import TofuError
from ..protocol.message import Message, next_message_id
from ..protocol.op_code import OpCode
from ..protocol.quoting import quoted
from ..protocol.status import Status
from .errors import Failure, printable

PART: Final = 60 * 1024
"""Bytes in a part: whole pages, and less than the 65,535 that fit in a body."""

PATIENCE: Final = 60.0
"""Seconds without any progress after which a transfer is given up."""

NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})

Advance: TypeAlias = Callable[[int], None]
"""Told by how many bytes a transfer has got further."""

_NAME: Final = "File-Name"
_SIZE: Final = "File-Size"
_SHA256: Final = "File-SHA256"
_RECEIVED: Final = "File-Received"

_REPORT_EVERY: Final = 1.0
"""Seconds between the receiver's signals."""

_LONGEST_NAME: Final = 255
_DECIMAL: Final = re.compile(r"[0-9]{1,19}")


@dataclass(frozen=True)
class Offer:
    """A file that a sender has.

    Attributes:
        name: without folders, and safe to print.
        size: in bytes.
    """

    name: str
    size: int


def offer_in(message: Message) -> Offer | None:
    """What a message offers; None if it is not the first part of a file."""
    name, size = message.headers.get(_NAME), message.headers.get(_SIZE, "")
    if message.op_code is not OpCode.REQUEST or name is None or not _DECIMAL.fullmatch(size):
        return None
    return Offer(_shown(name), int(size))


def offer_of(file: Path) -> Offer:
    """The offer of a file on disk."""
    return Offer(_shown(file.name), file.stat().st_size)


def _shown(name: str) -> str:
    """A name as it may stand in a header and in any line of output, whoever chose it."""
    return printable(name).strip()[:_LONGEST_NAME] or "?"


# --- the sender ---------------------------------------------------------------------------


async def send_file(
    channel: Channel,
    file: BinaryIO,
    offer: Offer,
    advance: Advance,
    *,
    headers: Mapping[str, str] = NO_HEADERS,
    part_size: int = PART,
    patience: float = PATIENCE,
) -> str:
    """Send a file, and return the SHA-256 on which both sides agree.

    Args:
        channel: where it goes.
        file: what is sent.
        offer: what it is.
        advance: told about progress.
        headers: of the first part, beside those of the offer.
        part_size: bytes of each part.
        patience: seconds without any progress until the receiver counts as lost.

    Raises:
        Failure: the receiver refused it, got another one, or was lost; or the file has shrunk.
        OSError: the file cannot be read.
    """
    message_id = next_message_id()
    sha256 = None  # known with the last part
    async with _patient(patience, "receiver") as progressed:
        answer = asyncio.create_task(_answer(channel, message_id, progressed))
        try:
            # How receiving ends says more about a lost peer than how sending does.
            with contextlib.suppress(TofuError):
                for part in _parts(file, offer, headers, part_size, message_id):
                    await channel.send(part)
                    sha256 = part.headers.get(_SHA256)
                    progressed()
                    advance(len(part.body))
                    # As long as there is room send() does not wait, and nobody else would run.
                    await asyncio.sleep(0)
                    if answer.done():
                        break
            response = await answer
        except TofuError as error:
            raise Failure(f"the receiver was lost, send {offer.name} again: {error}") from error
        finally:
            answer.cancel()
            await asyncio.gather(answer, return_exceptions=True)
    if response.status is not Status.SUCCESS:
        reason = quoted(response.body) or response.status.name.lower()
        raise Failure(f"the receiver did not take {offer.name}: {reason}")
    if _RECEIVED not in response.headers:  # an echo server's, say
        raise Failure("who listens there does not take files: start 'tofu receive'")
    if sha256 is None or response.headers.get(_SHA256) != sha256:
        raise Failure(f"the receiver has another SHA-256 for {offer.name}: send it again")
    return sha256


def _parts(
    file: BinaryIO, offer: Offer, first: Mapping[str, str], part_size: int, message_id: int
) -> Iterator[Message]:
    headers = {_NAME: offer.name, _SIZE: str(offer.size), **first}
    digest = hashlib.sha256()
    left = offer.size
    more = True
    while more:
        wanted = min(part_size, left)
        body = file.read(wanted)
        if len(body) < wanted:
            raise Failure(f"{offer.name} became shorter while it was sent: send it again")
        left -= wanted
        more = left > 0
        digest.update(body)
        if not more:
            headers[_SHA256] = digest.hexdigest()
        yield Message(OpCode.REQUEST, body, headers, message_id, more)
        headers = {}


async def _answer(channel: Channel, message_id: int, progressed: Callable[[], None]) -> Message:
    """The receiver's response; a signal that it has received more is progress."""
    received = 0
    while True:
        with await channel.receive() as message:
            told = message.headers.get(_RECEIVED, "")
            if _DECIMAL.fullmatch(told) and int(told) > received:
                received = int(told)
                progressed()
            if message.op_code is OpCode.RESPONSE and message.message_id == message_id:
                return message


# --- the receiver -------------------------------------------------------------------------


async def receive_file(
    channel: Channel,
    first: Message,
    write: Callable[[bytes], object],
    advance: Advance,
    *,
    pause: float = 0.0,
    patience: float = PATIENCE,
) -> str:
    """Receive the file whose first part is here, and return its SHA-256, the sender's as well.

    Every message is released. The caller has to answer, by ``confirm`` or ``refuse``.

    Args:
        channel: where the other parts come from.
        first: ``offer_in`` found an offer in it.
        write: takes each part's bytes.
        advance: told about progress.
        pause: seconds to wait after each part.
        patience: seconds without a part until the sender counts as lost.

    Raises:
        Failure: the sender was lost, stopped, or sent something else than it offered.
        OSError: from ``write``.
    """
    offer = offer_in(first)
    assert offer is not None
    digest = hashlib.sha256()
    received = 0
    report = _Reports(channel, first.message_id)
    message = first
    async with _patient(patience, "sender") as progressed:
        while True:
            with message:
                received += len(message.body)
                _check_part(message, first, offer, received)
                write(message.body)
                digest.update(message.body)
                if pause:
                    await asyncio.sleep(pause)
            if message.body:  # the others bring the file no further
                progressed()
            advance(len(message.body))
            if not message.more:
                break
            try:
                await report(received)
                message = await channel.receive()
            except TofuError as error:
                got = f"{decimal(received)} of {decimal(offer.size)}"
                raise Failure(f"the sender was lost after {got}, send it again: {error}") from error
    if message.headers.get(_SHA256) != digest.hexdigest():
        raise Failure(f"{offer.name} arrived with another SHA-256 than was sent: send it again")
    return digest.hexdigest()


async def confirm(channel: Channel, first: Message, sha256: str) -> None:
    """Tell the sender that its file has arrived."""
    # Should it have gone meanwhile, the file is whole all the same.
    with contextlib.suppress(TofuError):
        headers = {_RECEIVED: first.headers[_SIZE], _SHA256: sha256}
        await channel.send(Message(OpCode.RESPONSE, b"", headers, first.message_id))


async def refuse(channel: Channel, first: Message, reason: str) -> None:
    """Tell the sender why its file is not taken. Should it have gone, there is no need to."""
    with contextlib.suppress(TofuError):
        answer = Message(OpCode.RESPONSE, reason.encode(errors="replace"), (), first.message_id)
        answer.status = Status.PROCESSING_FAILED
        await channel.send(answer)


class _Reports:
    """Tells the sender now and then how much has been received."""

    def __init__(self, channel: Channel, message_id: int) -> None:
        self._channel = channel
        self._message_id = message_id
        self._now = asyncio.get_running_loop().time
        self._last = self._now()

    async def __call__(self, received: int) -> None:
        if self._now() - self._last >= _REPORT_EVERY:
            self._last = self._now()
            headers = {_RECEIVED: str(received)}
            await self._channel.signal(headers=headers, message_id=self._message_id)


def _check_part(message: Message, first: Message, offer: Offer, received: int) -> None:
    if message.op_code is not OpCode.REQUEST or message.message_id != first.message_id:
        raise Failure(f"the sender mixed a {message.op_code.name} into {offer.name}")
    if received > offer.size or (received < offer.size and not message.more):
        raise Failure(f"the sender offered {offer.size} bytes and sent another number of them")


@asynccontextmanager
async def _patient(seconds: float, peer: str) -> AsyncIterator[Callable[[], None]]:
    """Bound the time without progress. What it gives is to be called at each step forward."""
    now = asyncio.get_running_loop().time
    limit = asyncio.timeout(seconds)

    def progressed() -> None:
        if not limit.expired():
            limit.reschedule(now() + seconds)

    try:
        async with limit:
            yield progressed
    except TimeoutError:
        if not limit.expired():
            raise  # a file's own
        raise Failure(f"no progress within {seconds:g} s: is the {peer} stuck?") from None
