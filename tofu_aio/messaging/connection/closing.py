"""The end of a connection: its last frames, the peer's deadline, and closing the socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Protocol

from ...protocol.decoder import Decoder
from ...protocol.errors import ChannelClosed, ChannelEnded, PeerDisconnected, TofuError
from ...protocol.lifecycle import HUNG_UP, SEND, State
from ...protocol.op_code import OpCode
from ...transport.socket_options import reset_on_closing
from ...transport.unread import Unread
from ..flow_control.read_gate import ReadGate
from ..limits import BYE_TIMEOUT, LINGER
from .agreements import Extension
from .drain import Drain
from .send_queue import SendQueue
from .sink import Observer
from .suspension import Suspension


class Ending(Protocol):
    """The connection that is closed."""

    decoder: Decoder
    end: TofuError | None
    gate: ReadGate
    loop: asyncio.AbstractEventLoop
    peer_supports: Extension
    queue: SendQueue
    suspension: Suspension | None

    @property
    def sink(self) -> Observer:
        """The observer that the end is reported to."""

    @property
    def number(self) -> int:
        """Its local number."""

    @property
    def idle(self) -> bool:
        """Whether everything that has arrived was delivered."""

    def reconcile_reading(self) -> None:
        """Start or stop reading, as the connection's state requires."""

    def data_received(self, data: bytes) -> None:
        """Decode and deliver what a failed socket still held."""

    def resume(self, granted: int) -> None:
        """Go on decoding what has waited for permits."""


class Closing:
    """Closes a connection. Made when it is first needed, so that idle channels stay small.

    There are three ways to end: ``hang_up`` sends what is queued and closes the socket, ``linger``
    sends it and lets the peer close first, and ``abort`` resets the connection. Then ``settle``
    reports the end, once everything that has arrived was delivered, and the closed socket.

    Args:
        connection: the one to close.

    Attributes:
        discarding: whether this side has closed, so that everything that still comes is dropped.
        drain: the announcement, by either side, that the channel will be closed.
        gone: whether the socket is closed, and the sink was notified.
        lingering: whether the last frame is queued or sent, and the peer has to close first.
        reported: whether the end was reported to the sink.
        unread: unread data of a failed socket, which is delivered first; None if there is none.
    """

    __slots__ = (
        "_connection",
        "_deadline",
        "_done",
        "discarding",
        "drain",
        "gone",
        "lingering",
        "reported",
        "unread",
    )

    def __init__(self, connection: Ending) -> None:
        self._connection = connection
        self._deadline: asyncio.TimerHandle | None = None
        self._done: asyncio.Future[None] | None = None  # made by ``done``
        self.discarding = False
        self.drain = Drain(connection)
        self.gone = False
        self.lingering = False
        self.reported = False
        self.unread: Unread | None = None

    @property
    def done(self) -> asyncio.Future[None]:
        """A future that is completed when the socket is closed."""
        if self._done is None:
            self._done = self._connection.loop.create_future()
            if self.gone:
                self._done.set_result(None)
        return self._done

    @property
    def lingers(self) -> bool:
        """Whether all frames have left, and only the peer has to close."""
        return self.lingering and not self._connection.queue.nbytes

    # --- ways to end ----------------------------------------------------------------------

    def hang_up(self, error: TofuError) -> None:
        """Send what is queued and close the socket; reset it if the peer takes too long."""
        self.lingering = False
        self._connection.queue.flush_all()
        self.finish(error)

    def linger(self, error: TofuError) -> None:
        """End after this side's last frame, and let the peer, which has none left, close first.

        Bytes that still come are read and dropped: closing a socket that holds unread bytes resets
        the connection (tcp(7)), and a reset destroys data that the peer has not read yet.
        """
        connection = self._connection
        self.lingering = True
        queue = connection.queue
        queue.flush_all()
        if queue.transport is not None and queue.nbytes:
            queue.transport.set_write_buffer_limits(0)  # so that it reports an empty buffer
        self._call_later(LINGER, partial(self._linger_on, connection.loop.time(), queue.nbytes))
        connection.decoder.close()
        self.finish(error)
        connection.reconcile_reading()

    def linger_no_more(self) -> None:
        """End the lingering close, because the peer's time is over or other channels need room.

        The socket is closed in order, unless bytes are left to be sent: then it is reset.
        """
        if self._connection.queue.nbytes:
            self._reset()
        else:
            self.lingering = False
            self.settle()

    def abort(self, error: TofuError) -> None:
        """Drop what is queued and reset the connection, at once."""
        self._connection.queue.drop()
        self._reset()  # first: settling would close the socket, and TLS would send a notice of that
        self.finish(error)
        self.discard()

    def lose(self, error: PeerDisconnected) -> None:
        """Reset the connection at once: the peer is gone, and the kernel does not know."""
        self._reset()
        self.finish(error)

    def dismiss(self, error: TofuError) -> None:
        """Send a Bye, if the channel is open, and end at once. The peer has a second to close.

        Its answer is ignored, because it may send none.
        """
        connection = self._connection
        if connection.end is not None:
            return
        state = connection.decoder.state
        if state is State.OPEN:
            connection.queue.enqueue_judged(OpCode.BYE_REQUEST)
            self.linger(error)
        elif state is State.BYE_HEARD:
            self._answer_bye(error)
        else:
            self.hang_up(error)

    def close_at_once(self, error: TofuError) -> None:
        """Hang up if all frames have left and only the peer has to close, otherwise abort."""
        if self.lingers:
            self.hang_up(error)
        else:
            self.abort(error)

    def _answer_bye(self, error: TofuError) -> None:
        """Answer a Bye and end, like ``SendQueue.enqueue_judged``, but with another error."""
        connection = self._connection
        queue = connection.queue
        connection.decoder.state, message_id = queue.judge(OpCode.BYE_RESPONSE, 0)
        queue.enqueue_header(int(OpCode.BYE_RESPONSE), message_id)
        queue.sent += 1
        self.linger(error)

    def _linger_on(self, since: float, before: int) -> None:
        """End the lingering close if all has left or the peer takes nothing, or check again later.

        Args:
            since: when the peer last took something, as far as is known.
            before: bytes that were queued at the last check.
        """
        connection = self._connection
        queued, now = connection.queue.nbytes, connection.loop.time()
        if queued < before:
            since = now
        if not queued:
            self.linger_no_more()
        elif now < since + BYE_TIMEOUT:
            self._call_later(LINGER, partial(self._linger_on, since, queued))
        else:
            self._reset()

    # --- closing on this side -------------------------------------------------------------

    def discard(self) -> None:
        """Drop all messages that come, without permits: only a Bye matters now."""
        connection = self._connection
        self.discarding = True
        if connection.suspension is not None:
            connection.gate.forget(connection.suspension)
        connection.decoder.stop_counting()
        if connection.decoder.starved:
            connection.resume(0)
        connection.reconcile_reading()

    async def aclose(self, timeout: float | None = None) -> None:
        """Send or answer a Bye, wait for the peer's last frame, and close.

        May be repeated, from any task. If cancelled, it aborts. In a forked child it does nothing.

        Args:
            timeout: seconds that it may take; None: until the peer has taken nothing for 5 seconds.
        """
        if self._connection.gate.owner_loop.in_parent:
            return
        self._begin()
        await self._wait_until_gone("answer Bye", timeout)

    def close_soon(self) -> None:
        """Close as ``aclose`` does, without a task that waits for it."""
        connection = self._connection
        if connection.gate.owner_loop.in_parent:
            return
        self._begin()
        # A task, because asyncio.run cancels tasks if the loop ends before the Bye is answered. And
        # a callback, because a task can be cancelled before it begins.
        waiting = connection.loop.create_task(
            self._wait_while_taken(), name=f"tofu close {connection.number}"
        )
        waiting.add_done_callback(self._closed_soon)

    async def aclose_unless_lingering(self) -> None:
        """Close as ``aclose`` does, but do not wait for a peer that only has to close."""
        if self._connection.gate.owner_loop.in_parent:
            return
        self._begin()
        if not self.lingers:
            await self._wait_until_gone("answer Bye", None)

    async def wait_refused(self) -> None:
        """Wait until the peer, whose Hello was refused, has closed the connection.

        Takes at most as long as ``aclose``. A cancelled call closes at once.
        """
        await self._wait_until_gone("close the connection", BYE_TIMEOUT)

    def _closed_soon(self, waiting: asyncio.Task[object]) -> None:
        if self.gone:
            return
        if waiting.cancelled():
            self.hang_up(ChannelClosed("closing was cancelled"))  # the Bye is still sent
        else:
            self._close_late("answer Bye", BYE_TIMEOUT)

    def _begin(self) -> None:
        self.discard()
        connection = self._connection
        state = connection.decoder.state
        if connection.end is None:
            if OpCode.BYE_REQUEST in SEND[state]:
                connection.queue.enqueue_judged(OpCode.BYE_REQUEST)
            elif OpCode.BYE_RESPONSE in SEND[state]:
                connection.queue.enqueue_judged(OpCode.BYE_RESPONSE)
            elif state not in {State.BYE_SENT, State.BYE_ANSWERED}:
                self.hang_up(ChannelClosed("the channel was closed before it was open"))

    async def _wait_until_gone(self, awaited: str, timeout: float | None) -> None:
        """Wait until the socket is closed; close it at once if that takes too long."""
        try:
            if timeout is None:
                await self._wait_while_taken()
            else:
                await asyncio.wait([self.done], timeout=timeout)
            if not self.done.done():
                self._close_late(awaited, BYE_TIMEOUT if timeout is None else timeout)
            await asyncio.shield(self.done)
        except asyncio.CancelledError:
            self.close_at_once(ChannelClosed("closing was cancelled"))
            raise

    async def _wait_while_taken(self) -> None:
        """Wait until the socket is closed, or the peer has taken nothing for 5 seconds.

        A slow peer that still takes bytes gets everything that was sent before this side's Bye.
        """
        queued = 0
        while not self.done.done():
            before, queued = queued, self._connection.queue.nbytes
            if before and queued >= before:
                break
            await asyncio.wait([self.done], timeout=BYE_TIMEOUT)
            if not self._connection.queue.nbytes:
                break

    def _close_late(self, awaited: str, timeout: float) -> None:
        """Close at once: in order if all frames have left, otherwise by a reset."""
        connection = self._connection
        error = ChannelClosed(f"the peer did not {awaited} within {timeout:g} s")
        if unsent := connection.queue.nbytes:
            text = f"channel {connection.number}: {error}; {unsent} bytes were not sent"
            connection.gate.warnings.warn("unsent bytes", text)
            self.abort(error)
        else:
            # The kernel goes on delivering the frames, the Bye after them.
            self.hang_up(error)

    # --- noting and reporting the end -----------------------------------------------------

    def finish(self, error: TofuError) -> None:
        """End the connection with this error, unless it has ended already."""
        connection = self._connection
        # A loss may be noticed before messages that wait for permits were decoded. They came first,
        # so if they end the connection, for example with the answer to a Bye, that end counts.
        if connection.end is None or (
            not self.reported and isinstance(connection.end, PeerDisconnected)
        ):
            connection.end = error
        if connection.decoder.early:
            connection.decoder.close()  # there will be no decision on this Hello
        connection.queue.turn_away()
        self.settle()

    def settle(self) -> None:
        """Report the end once everything that has arrived was delivered, then the closed socket."""
        connection = self._connection
        if connection.end is None or not connection.idle or self.unread is not None:
            return
        if not self.reported:
            self.reported = True
            decoder = connection.decoder
            if decoder.state in HUNG_UP and isinstance(connection.end, PeerDisconnected):
                decoder.state = HUNG_UP[decoder.state]
                connection.end = ChannelEnded("both sides said Bye, and the peer hung up")
            if connection.suspension is not None:
                connection.gate.forget(connection.suspension)
            decoder.close()
            connection.sink.ended(connection.end)
            self.drain.end_waits()
        transport = connection.queue.transport
        if transport is None:
            if not self.gone:
                self.gone = True
                if self._done is not None:
                    self._done.set_result(None)
                connection.sink.closed()
                connection.queue.drop()
        elif not self.lingering and not transport.is_closing():
            transport.close()
            self._call_later(BYE_TIMEOUT, self._reset)

    def read_rest(self) -> None:
        """Deliver what a failed socket still holds, as far as permits go, and then settle."""
        while self.unread is not None and self._connection.idle:
            data = self.unread.read()
            if data:
                self._connection.data_received(data)
            else:
                self.unread = None
        self.settle()

    def cancel_deadline(self) -> None:
        """Cancel the peer's deadline: the transport is closed."""
        if self._deadline is not None:
            self._deadline.cancel()

    def _call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Set the one deadline, which replaces an earlier one."""
        self.cancel_deadline()
        self._deadline = self._connection.loop.call_later(seconds, callback)

    def _reset(self) -> None:
        transport = self._connection.queue.transport
        if transport is None:
            return
        reset_on_closing(transport.get_extra_info("socket"))
        transport.abort()
