"""Frames on their way from a connection to its transport."""

from __future__ import annotations

import asyncio
import sys
from typing import Final, Protocol

from ...core import QueueFields, fast
from ...protocol.binary_header import HEADER, HEADER_SIZE
from ...protocol.decoder import Decoder
from ...protocol.drain_notice import DRAIN_NOTICE, DRAINS
from ...protocol.lifecycle import State
from ...protocol.message import Message
from ...protocol.op_code import OpCode
from ...protocol.pool import Permit

_pack: Final = HEADER.pack
_SIGNAL: Final = int(OpCode.SIGNAL)

_GATHERS: Final = sys.platform != "win32"
"""Whether transports send several chunks with one system call. On Windows none does, and asyncio's
selector loops there drop bytes that the system has no room for (3.12 to 3.14)."""

LONG: Final = 16 * 1024
"""Bytes from which a body is given to the transport without copying it."""


class Owner(Protocol):
    """The connection that a queue belongs to."""

    loop: asyncio.AbstractEventLoop

    def set_write_limits(self) -> None:
        """Make the transport compare its buffer with the high-water mark."""


class FrameQueue(QueueFields):
    """Frames that the transport does not have yet, and their writing to it.

    Signal handlers and finalizers may send in the middle of any of this code. So a frame is added
    in a single step, and only one flush at a time takes frames out.

    Attributes:
        carried: the permits that queued messages hold.
        congested: whether a sender may have to wait; see ``SendQueue``.
        frames: the queued frames. A frame with a long body is two items: header with text headers,
            and body. The compiled core puts several short ones into one item.
        high_water: bytes above which senders have to wait.
        number: of the channel, which each frame carries.
        paused: whether the transport's buffer is above the high-water mark.
        sent: how many messages were accepted for sending.
        transport: where frames go; None before the connection is made and after it is lost.
    """

    __slots__ = ()

    _owner: Owner

    def __init__(self, number: int, high_water: int) -> None:
        self.number = number
        self.high_water = high_water
        self.transport: asyncio.Transport | None = None
        # Empty, it is a tuple: an empty list would take a tenth of a channel's memory.
        self.frames: list[bytes] | tuple[()] = ()
        self._nbytes = 0  # of the frames
        self._given = 0  # bytes that the transport was given
        self.sent = 0
        self._written = 0  # how many of the messages sent the transport was given
        self._long = False  # whether there is a long body among the frames
        self.carried: list[Permit] | tuple[()] = ()
        self._writing = False  # a flush is in progress
        self.paused = False
        self.congested = False

    def extra_info(self, name: str) -> object:
        """Information of the transport about its socket; None once that is closed."""
        transport = self.transport
        return transport.get_extra_info(name) if transport is not None else None

    @property
    def nbytes(self) -> int:
        """Bytes that wait to be sent, here and in the transport."""
        transport = self.transport
        buffered = transport.get_write_buffer_size() if transport else 0
        return self._nbytes + buffered if self.frames else buffered

    @property
    def taken(self) -> int:
        """Bytes that the kernel has taken for the peer. With TLS the number is approximate."""
        buffered = self.transport.get_write_buffer_size() if self.transport else 0
        return self._given - buffered

    @property
    def given(self) -> int:
        """Bytes that the transport was given."""
        return self._given

    def _extend(self, frames: list[bytes]) -> None:
        """Queue a frame, in one or two pieces. The caller counts their bytes."""
        if len(frames[-1]) >= LONG:
            self._long = True
        if self.frames:
            self.frames.extend(frames)
        else:
            self.frames = frames

    @fast
    def flush(self) -> None:
        """Give the transport all frames in one piece, unless it is above its high-water mark.

        Called within another flush, by a signal handler or a finalizer, it leaves them to that one.
        """
        transport = self.transport
        while self.frames:
            if transport is None or self.paused or self._writing:
                return
            if transport.is_closing():
                # A write has failed, and connection_lost is called in a later turn. Until then the
                # transport drops everything. A sender that never waits would prevent that turn.
                self.paused = self.congested = True
                return
            self._writing = True
            try:
                frames, self.frames = self.frames, ()
                self._given += self._nbytes
                self._nbytes = 0
                self._written = self.sent
                if self.carried:
                    self.release_carried()
                if self._long:
                    self._long = False
                    self._write_long(transport, frames)
                else:
                    transport.write(b"".join(frames))
            finally:
                self._writing = False

    def enqueue_header(self, proto: int, message_id: int = 0, status: int = 0) -> None:
        """Queue a frame that is only a header, in any state and without counting it."""
        frame = _pack(self.number, proto, status, message_id, 0, 0)
        self._extend([frame])
        self._nbytes += HEADER_SIZE

    def send_heartbeat(self) -> None:
        """Send a heartbeat. It is not a message, so it has no id and is not counted."""
        self.enqueue_header(_SIGNAL)
        self.flush()

    def send_drain_notice(self) -> None:
        """Announce that this side will close, behind all that is queued. It is not counted."""
        self.enqueue_header(DRAIN_NOTICE, status=DRAINS)
        self.flush()

    def drop(self) -> list[bytes] | tuple[()]:
        """Empty the queue, and return its frames."""
        frames = self.frames
        self.frames = ()
        self._nbytes = 0
        self._long = False
        if self.carried:
            self.release_carried()
        return frames

    def _carry_permit(self, message: Message) -> None:
        """Take over the permit of a message that was queued, until its bytes leave the queue."""
        carried: list[Permit] = []  # made before the checks, as this may run finalizers
        permit = message._take_permit()
        if permit is None:
            pass  # another thread has released it just now
        elif self.frames:
            if not self.carried:
                self.carried = carried
            self.carried.append(permit)
        else:
            permit.release()

    def release_carried(self) -> None:
        """Give back the permits of messages that were sent on."""
        carried, self.carried = self.carried, ()
        for permit in carried:
            permit.release()

    def unsent(self) -> list[Message]:
        """Empty the queue, and return its messages, which the transport was never given."""
        messages = Decoder(None, State.OVERHEARD).feed(b"".join(self.drop()))
        return [message for message in messages if message.message_id]  # notices have none

    def _write_long(self, transport: asyncio.Transport, frames: list[bytes] | tuple[()]) -> None:
        """Write long bodies uncopied, and the frames between them in one piece."""
        if not _GATHERS:
            transport.write(b"".join(frames))
            return
        chunks: list[bytes] = []
        begin = 0
        for end, piece in enumerate(frames):
            if len(piece) >= LONG:
                chunks += (b"".join(frames[begin:end]), piece)
                begin = end + 1
        if begin < len(frames):
            chunks.append(b"".join(frames[begin:]))
        transport.writelines(chunks)
        if transport.get_write_buffer_size() > self.high_water:
            # Some versions of asyncio (3.12.1, 3.13.0) do not check the limit after writelines.
            self._owner.set_write_limits()
