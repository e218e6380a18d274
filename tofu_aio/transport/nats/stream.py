"""An asyncio transport whose bytes travel as NATS messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol, Self, cast

from ..unread import UNREAD
from . import chunk
from .chunk import Chunk
from .credit import Budget, Window
from .receiver import Receiver
from .sender import Sender


class Carrier(Protocol):
    """The connection to the broker that carries the chunks of a channel."""

    budget: Budget
    loop: asyncio.AbstractEventLoop
    most: int

    def add(self, member: NatsStream) -> str:
        """Return the token of a new inbox."""

    def mark(self, stream: NatsStream) -> None:
        """Take the stream's ``chunks`` at the end of this turn."""

    def post(self, inbox: str, token: str, what: Chunk) -> None:
        """Send a chunk without payload, apart from the order of any stream."""

    def hurry(self) -> None:
        """Do not wait until what streams have sent has arrived, if no user is left."""

    def leave(self, token: str, left: Callable[[], object]) -> None:
        """Forget a stream, and call ``left`` in a later turn.

        If it was the last user of the connection, that is closed before.
        """


class NatsStream(asyncio.Transport):
    """One end of a channel over NATS.

    The order of the peer's chunks is checked: what is lost, or comes twice, ends the channel as a
    lost peer. ``connection_lost`` is called as for a socket; if this was the last channel of its
    connection to the broker, that is closed before.

    Args:
        carrier: carries the chunks.
        token: of the inbox on this side.
        peer: the subject of the peer's inbox.
        credit: what the peer has granted to begin with.
        window: what this side grants.
        first: the first chunk, if it is this side that accepts the channel; None for the client's
            side, whose first chunk was the request to open it.
    """

    def __init__(
        self,
        carrier: Carrier,
        token: str,
        peer: str,
        credit: int,
        window: Window,
        *,
        first: Chunk | None = None,
    ) -> None:
        self._receiver = Receiver(window)
        super().__init__({"peername": peer, UNREAD: self._receiver.read_rest})
        self._carrier = carrier
        self.token = token
        self.peer = peer
        self._sender = Sender(credit, carrier.most)
        self._first = first
        self._sent = 0 if first else 1  # chunks
        self._arrived = 1
        self._grant = 0  # bytes that the peer is to be told of
        self._high_water = 64 * 1024
        self._low_water = 16 * 1024
        self._writing_paused = False
        self._ending = False  # write_eof was called
        self._ended = False  # and the end was sent
        self._peer_ended = False  # it sends no more data
        self._peer_gone = False  # it has closed, and reads nothing more
        self._closing = False
        self._over = False
        self._reported = False  # the protocol knows that it is over
        if first:
            carrier.mark(self)

    @classmethod
    def accepted(cls, carrier: Carrier, peer: str, credit: int, window: Window) -> Self:
        """Return the listener's end of a new channel, which is about to tell the client."""
        first = Chunk(chunk.ACCEPT, 0, window.grant())
        stream = cls(carrier, "", peer, credit, window, first=first)
        stream.token = carrier.add(stream)
        return stream

    def start(self, protocol: asyncio.BaseProtocol) -> None:
        """Connect the protocol, and begin to read."""
        self.set_protocol(protocol)
        protocol.connection_made(self)
        if not self._closing:
            self.resume_reading()

    # --- asyncio's transport --------------------------------------------------------------

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Use another protocol from now on."""
        self._receiver.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol."""
        return self._receiver.protocol

    def is_closing(self) -> bool:
        """Return whether it is closed, or being closed."""
        return self._closing

    def is_reading(self) -> bool:
        """Return whether the protocol is given what arrives."""
        return self._receiver.reading and not self._closing

    def pause_reading(self) -> None:
        """Give the protocol nothing, and the peer no credit, until reading is resumed."""
        self._receiver.reading = False

    def resume_reading(self) -> None:
        """Go on reading, in the next turn."""
        if not self._closing and not self._receiver.reading:
            self._receiver.reading = True
            self._carrier.loop.call_soon(self._deliver)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Buffer data. It leaves at the end of the turn, as far as there is credit."""
        if self._ending:
            raise RuntimeError("write_eof() was called before: nothing more can be written")
        if self._closing or not data:
            return
        if self._peer_gone:
            self.lose(BrokenPipeError("the peer has closed the channel"))
            return
        self._sender.add(bytes(data))
        self._carrier.mark(self)
        self._reconsider_writing()

    def can_write_eof(self) -> bool:
        """Return True."""
        return True

    def write_eof(self) -> None:
        """Send what is buffered, and then the end of the stream. Reading goes on."""
        if not self._ending and not self._closing:
            self._ending = True
            self._carrier.mark(self)

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait for credit, or for their turn."""
        return self._sender.size

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the low-water mark and the high-water mark."""
        return self._low_water, self._high_water

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the bytes above which writing is paused, and those down to which it resumes."""
        if high is None:
            high = 64 * 1024 if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high}) must be at least low ({low}), and low at least 0")
        self._high_water, self._low_water = high, low
        self._reconsider_writing()

    def close(self) -> None:
        """Send what is buffered, and then close."""
        if self._closing:
            return
        self._closing = True
        self._receiver.clear()
        if self._peer_gone:
            self._finish(None)
        else:
            self._carrier.mark(self)

    def abort(self) -> None:
        """Drop everything and close at once. The peer loses the channel."""
        if not self._reported:
            self._carrier.hurry()
        if not self._over:
            self._receiver.clear()
            self._tell_reset()
            self._finish(None)

    # --- what the carrier reports ---------------------------------------------------------

    def arrived(self, inbox: str, what: Chunk, payload: bytes) -> None:
        """Take the next chunk of the peer. What comes from another inbox changes nothing."""
        kind, number, value = what
        if self._over:
            return
        if inbox != self.peer:
            if kind == chunk.ACCEPT:  # of a request that was not sent, or is answered already
                self._carrier.post(inbox, self.token, Chunk(chunk.RESET, 0))
        elif kind == chunk.RESET:
            self._finish(ConnectionResetError("the peer has reset the channel"))
        elif number != self._arrived:
            text = f"chunk {self._arrived} from the peer was lost: the next one was {number}"
            self.lose(ConnectionResetError(text))
        else:
            self._arrived += 1
            self._take(kind, value, payload)

    def _take(self, kind: str, value: int, payload: bytes) -> None:
        receiver = self._receiver
        if kind == chunk.DATA and not self._peer_ended:
            if not receiver.window.arrived(len(payload)):
                self.lose(ConnectionResetError("the peer has sent more than it may"))
            elif not self._closing:
                receiver.add(payload)
                self._deliver()
        elif kind == chunk.CREDIT:
            self._sender.credit += value
            self._carrier.mark(self)
        elif kind == chunk.CLOSE and not self._peer_gone:
            self._peer_gone = True
            if self._closing:
                self._finish(None)  # nobody takes what is buffered
                return
            self._end()
            if self._sender.size:  # at once, even if reading is paused: its writer may be waiting
                self.lose(BrokenPipeError("the peer has closed, and what was sent last is lost"))
        elif kind == chunk.END and not self._peer_ended:
            self._end()
        else:
            self.lose(ConnectionResetError("the peer does not keep to the protocol"))

    def _end(self) -> None:
        """Let the protocol know, once, that no more data comes."""
        if not self._peer_ended:
            self._peer_ended = True
            self._receiver.end()
        self._deliver()

    def unheard(self) -> None:
        """Handle that a chunk of this side had no receiver."""
        self.lose(ConnectionResetError("the peer has gone: its inbox has no subscriber any more"))

    def lose(self, error: Exception) -> None:
        """End the channel as a lost peer, and let the peer know."""
        if not self._over:
            self._tell_reset()
            self._finish(error)

    def cut(self, error: Exception) -> None:
        """Handle that the connection to the broker is lost."""
        if not self._over:
            self._finish(error)

    def chunks(self) -> Iterator[tuple[str, bytes]]:
        """Yield what can be sent now: the token that stands for each chunk, and its payload."""
        while not self._over:
            if self._first is not None:
                first, self._first = self._first, None
                yield self._next(first), b""
            elif self._grant:
                grant, self._grant = self._grant, 0
                yield self._next(Chunk(chunk.CREDIT, 0, grant)), b""
            elif payload := self._sender.take():
                tail = f"{chunk.DATA}{self._sent}"
                self._sent += 1
                yield tail, payload
                self._reconsider_writing()
            elif self._sender.size:
                return  # more credit is on its way
            elif self._closing:
                yield self._next(Chunk(chunk.CLOSE, 0)), b""
                self._finish(None)
            elif self._ending and not self._ended:
                self._ended = True
                yield self._next(Chunk(chunk.END, 0)), b""
            else:
                return

    # --- within ---------------------------------------------------------------------------

    def _next(self, what: Chunk) -> str:
        number = self._sent
        self._sent += 1
        return what._replace(number=number).tail()

    def _tell_reset(self) -> None:
        self._carrier.post(self.peer, self.token, Chunk(chunk.RESET, self._sent))

    def _deliver(self) -> None:
        """Give the protocol what has arrived, and the peer credit for what was read."""
        if self._closing:
            return
        receiver = self._receiver
        try:
            ended = receiver.deliver()
            if ended and not self._protocol_end():
                self.close()
        except Exception as error:
            self._fail(error)
            return
        if not self.is_reading() or self._peer_gone:
            return  # a peer that has gone would answer credit with a reset
        if more := receiver.window.grant():
            self._grant += more
            self._carrier.mark(self)

    def _protocol_end(self) -> bool:
        return bool(cast("asyncio.Protocol", self._receiver.protocol).eof_received())

    def _reconsider_writing(self) -> None:
        """Pause or resume the protocol's writing, if the buffer asks for it."""
        protocol, size = self._receiver.protocol, self._sender.size
        try:
            if not self._writing_paused and size > self._high_water:
                self._writing_paused = True
                protocol.pause_writing()
            elif self._writing_paused and size <= self._low_water:
                self._writing_paused = False
                protocol.resume_writing()
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """Handle an exception of the protocol."""
        context = {
            "message": "a protocol over NATS has failed",
            "exception": error,
            "transport": self,
            "protocol": self._receiver.protocol,
        }
        self._carrier.loop.call_exception_handler(context)
        self.lose(error)

    def _finish(self, error: Exception | None) -> None:
        """Stop everything, and report the end in a later turn."""
        self._over = self._closing = True
        self._sender.clear()
        self._receiver.window.close()
        self._carrier.leave(self.token, partial(self._report, error))

    def _report(self, error: Exception | None) -> None:
        self._reported = True
        self._receiver.protocol.connection_lost(error)
