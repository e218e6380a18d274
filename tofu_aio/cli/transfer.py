"""The protocol that transfers one file over one channel, in constant memory on both sides.

The file is sent as one request in parts: REQUEST messages with the same message id, of which all
but the last have the ``more`` flag. These text headers describe it:

==============  ===========================  ================================================
header          on                           value
==============  ===========================  ================================================
File-Name       the first part               the file's name, for people
File-Size       the first part               its size in bytes, decimal
File-SHA256     the last part; the response  SHA-256 of all bodies together, hexadecimal
File-Received   signals; the response        bytes received so far, decimal
==============  ===========================  ================================================

If the file has only one part, that part has all of the sender's headers. The digest comes last, so
that the sender reads the file only once. During the transfer the receiver sends a SIGNAL from time
to time, with the request's message id. It tells the sender that a slow receiver is still alive,
which the sender could not know otherwise: the kernels buffer megabytes between the two.

The receiver answers with one RESPONSE. If its status is success, the receiver has the whole file,
and the headers contain its own digest and count. With any other status the body is a text that
gives the reason. The receiver may send such a response before the last part; then the sender stops.
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
"""Bytes in a part: whole pages, and less than the limit of 65,535 for a body."""

PROGRESS_TIMEOUT: Final = 60.0
"""Seconds without progress after which a transfer fails."""

NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})

Advance: TypeAlias = Callable[[int], None]
"""Called with the number of bytes that a transfer has advanced."""

_NAME: Final = "File-Name"
_SIZE: Final = "File-Size"
_SHA256: Final = "File-SHA256"
_RECEIVED: Final = "File-Received"

_REPORT_EVERY: Final = 1.0
"""Seconds between the receiver's progress signals."""

_MAX_NAME_LENGTH: Final = 255
_DECIMAL: Final = re.compile(r"[0-9]{1,19}")


@dataclass(frozen=True)
class Offer:
    """A file that a sender offers.

    Attributes:
        name: the file's name without its folder, safe to print.
        size: in bytes.
    """

    name: str
    size: int


def parse_offer(message: Message) -> Offer | None:
    """The offer in a message; None if it is not the first part of a file."""
    name, size = message.headers.get(_NAME), message.headers.get(_SIZE, "")
    if message.op_code is not OpCode.REQUEST or name is None or not _DECIMAL.fullmatch(size):
        return None
    return Offer(_safe_name(name), int(size))


def offer_for(file: Path) -> Offer:
    """The offer for a file on disk."""
    return Offer(_safe_name(file.name), file.stat().st_size)


def _safe_name(name: str) -> str:
    """Make a file name safe for a header and for output; the peer may have chosen it."""
    return printable(name).strip()[:_MAX_NAME_LENGTH] or "?"


# --- the sender ---------------------------------------------------------------------------


async def send_file(
    channel: Channel,
    file: BinaryIO,
    offer: Offer,
    advance: Advance,
    *,
    headers: Mapping[str, str] = NO_HEADERS,
    part_size: int = PART,
    progress_timeout: float = PROGRESS_TIMEOUT,
) -> str:
    """Send a file, and return its SHA-256, which both sides have computed.

    Args:
        channel: the channel to the receiver.
        file: the file's content.
        offer: the file's description.
        advance: called as the transfer progresses.
        headers: for the first part, in addition to those of the offer.
        part_size: bytes in each part.
        progress_timeout: seconds without progress after which the transfer fails.

    Raises:
        Failure: the receiver rejected the file, computed another SHA-256, or was lost; or the file
            became shorter.
        OSError: the file cannot be read.
    """
    message_id = next_message_id()
    sha256 = None  # set with the last part
    async with _progress_timeout(progress_timeout, "receiver") as progressed:
        answer = asyncio.create_task(_answer(channel, message_id, progressed))
        try:
            # If the peer is lost, receiving raises a better error than sending.
            with contextlib.suppress(TofuError):
                for part in _parts(file, offer, headers, part_size, message_id):
                    await channel.send(part)
                    sha256 = part.headers.get(_SHA256)
                    progressed()
                    advance(len(part.body))
                    # While there is room, send() does not wait, and no other task would run.
                    await asyncio.sleep(0)
                    if answer.done():
                        break
            response = await answer
        except TofuError as error:
            raise Failure(f"lost the receiver ({error}): send {offer.name} again") from error
        finally:
            answer.cancel()
            await asyncio.gather(answer, return_exceptions=True)
    if response.status is not Status.SUCCESS:
        reason = quoted(response.body) or response.status.name.lower()
        raise Failure(f"the receiver rejected {offer.name}: {reason}")
    if _RECEIVED not in response.headers:  # for example the response of an echo server
        raise Failure("the peer does not receive files: start 'tofu receive' at that address")
    if sha256 is None or response.headers.get(_SHA256) != sha256:
        raise Failure(f"the receiver computed another SHA-256 for {offer.name}: send it again")
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
            raise Failure(f"{offer.name} became shorter during the transfer: send it again")
        left -= wanted
        more = left > 0
        digest.update(body)
        if not more:
            headers[_SHA256] = digest.hexdigest()
        yield Message(OpCode.REQUEST, body, headers, message_id, more)
        headers = {}


async def _answer(channel: Channel, message_id: int, progressed: Callable[[], None]) -> Message:
    """Wait for the receiver's response. Its signals count as progress."""
    received = 0
    while True:
        with await channel.receive() as message:
            reported = message.headers.get(_RECEIVED, "")
            if _DECIMAL.fullmatch(reported) and int(reported) > received:
                received = int(reported)
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
    progress_timeout: float = PROGRESS_TIMEOUT,
) -> str:
    """Receive a file, and return its SHA-256, which both sides have computed.

    Releases every message. The caller has to respond, with ``confirm`` or ``reject_file``.

    Args:
        channel: the channel from the sender.
        first: the first part, for which ``parse_offer`` returned an offer.
        write: called with the bytes of each part.
        advance: called as the transfer progresses.
        pause: seconds to wait after each part.
        progress_timeout: seconds without progress after which the transfer fails.

    Raises:
        Failure: the sender was lost, made no progress, or did not send what it had offered.
        OSError: raised by ``write``.
    """
    offer = parse_offer(first)
    assert offer is not None
    digest = hashlib.sha256()
    received = 0
    report = _ProgressReports(channel, first.message_id)
    message = first
    async with _progress_timeout(progress_timeout, "sender") as progressed:
        while True:
            with message:
                received += len(message.body)
                _check_part(message, first, offer, received)
                write(message.body)
                digest.update(message.body)
                if pause:
                    await asyncio.sleep(pause)
            if message.body:  # an empty part is no progress
                progressed()
            advance(len(message.body))
            if not message.more:
                break
            try:
                await report(received)
                message = await channel.receive()
            except TofuError as error:
                raise Failure(
                    f"lost the sender after {decimal(received)} of {decimal(offer.size)} "
                    f"({error}): send {offer.name} again"
                ) from error
    if message.headers.get(_SHA256) != digest.hexdigest():
        raise Failure(f"{offer.name} arrived with a different SHA-256 than was sent: send it again")
    return digest.hexdigest()


async def confirm(channel: Channel, first: Message, sha256: str) -> None:
    """Tell the sender that its file has arrived."""
    # If the sender was lost meanwhile, the file is complete nevertheless.
    with contextlib.suppress(TofuError):
        headers = {_RECEIVED: first.headers[_SIZE], _SHA256: sha256}
        await channel.send(Message(OpCode.RESPONSE, b"", headers, first.message_id))


async def reject_file(channel: Channel, first: Message, reason: str) -> None:
    """Tell the sender why its file is rejected, unless the sender was lost."""
    with contextlib.suppress(TofuError):
        answer = Message(OpCode.RESPONSE, reason.encode(errors="replace"), (), first.message_id)
        answer.status = Status.PROCESSING_FAILED
        await channel.send(answer)


class _ProgressReports:
    """Tells the sender from time to time how much has been received."""

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
        raise Failure(
            f"the sender broke the protocol: it sent a {message.op_code.name} with message id "
            f"{message.message_id} in the middle of {offer.name}"
        )
    if received > offer.size or (received < offer.size and not message.more):
        raise Failure(
            f"the sender broke the protocol: it offered {offer.size} bytes and sent "
            f"{'more' if received > offer.size else received}"
        )


@asynccontextmanager
async def _progress_timeout(seconds: float, peer: str) -> AsyncIterator[Callable[[], None]]:
    """Limit the time without progress. Yields a function to call at each progress."""
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
            raise  # of the file, which may be on a network file system
        raise Failure(f"no progress for {seconds:g} s: is the {peer} stuck?") from None
