"""Two send queues, one compiled and one in Python, that are given the same and must do the same."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tests.core.reference import PlainDecoder, PlainSendQueue, plain_pool
from tofu_aio.messaging.connection.frame_queue import LONG
from tofu_aio.messaging.connection.send_queue import SendQueue
from tofu_aio.protocol.binary_header import HEADER, HEADER_SIZE
from tofu_aio.protocol.decoder import Decoder
from tofu_aio.protocol.errors import PeerDisconnected, TofuError
from tofu_aio.protocol.lifecycle import State
from tofu_aio.protocol.message import Message, next_message_id
from tofu_aio.protocol.op_code import OpCode
from tofu_aio.protocol.pool import Pool

Operation = tuple[Any, ...]
"""The name of one of a side's methods, and its arguments."""

HIGH_WATER = 5000


class Transport:
    """Notes what it is given, and keeps it in its buffer while the peer takes nothing."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.buffered = 0
        self.takes = True
        self.closing = False

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes) -> None:
        self.written.append(data)
        if not self.takes:
            self.buffered += len(data)

    def writelines(self, chunks: Sequence[bytes]) -> None:
        for chunk in chunks:
            self.write(chunk)

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def get_extra_info(self, name: str) -> None:
        return None


class Owner:
    """A connection, as far as its queue knows, which notes what it is told; and its loop."""

    def __init__(self) -> None:
        self.loop: Any = self
        self.soon: list[Callable[[], object]] = []
        self.told: list[object] = []
        self.end: TofuError | None = None
        self.closed_here = False

    def call_soon(self, callback: Callable[[], object]) -> None:
        self.soon.append(callback)

    def set_write_limits(self) -> None:
        self.told.append("limits")

    def abort(self, error: TofuError) -> None:
        self.told.append(str(error))

    def control_sent(self, state: State, *arguments: object) -> None:
        self.told.append((state, arguments[0], arguments[2:]))

    def reconcile_reading(self) -> None:
        self.told.append("reading")

    def go_on_decoding_soon(self) -> None:
        self.told.append("decoding")


class Side:
    """One of the two, with all that belongs to it."""

    def __init__(self, compiled: bool) -> None:
        self.owner = Owner()
        self.pool: Pool = (Pool if compiled else plain_pool)(3, lambda: None)
        self.decoder = (Decoder if compiled else PlainDecoder)(self.pool, State.OPEN, 7)
        owner: Any = self.owner
        kind = SendQueue if compiled else PlainSendQueue
        self.queue = kind(owner, self.decoder, 7, HIGH_WATER)
        self.transport = Transport()
        self._connect(self.transport)
        self.names: dict[int, str] = {}
        """The ids that were drawn, by an order that is the same on both sides."""

    def _connect(self, transport: Any) -> None:
        self.queue.transport = transport

    # --- what happens to it -------------------------------------------------------------------

    def enqueue(self, *arguments: Any) -> object:
        """Send what consists of these."""
        return self._named(self.queue.enqueue, *arguments)

    def message(self, changes: dict[str, Any], at_once: bool, received: bool) -> object:
        """Send a message that was changed, perhaps one that holds a permit."""
        kind = changes.get("kind", Message)
        message = kind(OpCode.SIGNAL) if isinstance(kind, type) else kind
        if received:
            data = HEADER.pack(9, 0, 0, 1 << 33, 0, 1) + b"x"
            batch = self.decoder.feed(data)
            if not batch:
                self.decoder.close()
                return "no room"
            (message,) = batch
        for name, value in changes.items():
            if name != "kind":
                setattr(message, name, value)
        try:
            return self._named(self.queue.enqueue_message, message, at_once)
        finally:
            if received:
                assert message._permit is None or self.raised

    def flush(self) -> object:
        """Write what is queued."""
        return self.queue.flush()

    def pause(self) -> object:
        """The transport is full."""
        return self.queue.pause()

    def resume(self) -> object:
        """The transport has room."""
        self.queue.resume()
        self.queue.flush()
        return self.queue.admit()

    def turn(self) -> object:
        """The loop's next turn."""
        soon, self.owner.soon = self.owner.soon, []
        for callback in soon:
            callback()
        return len(soon)

    def takes(self) -> object:
        """The peer begins or ceases to take what is written."""
        self.transport.takes = not self.transport.takes
        self.transport.buffered = 0
        return None

    def closing(self) -> object:
        """A write has failed."""
        self.transport.closing = True
        return None

    def lost(self) -> object:
        """The transport is gone."""
        self._connect(None)
        return None

    def portion(self, high: bool) -> object:
        """A portion of what was received is being delivered, or no longer is."""
        self.queue.watched_from = HIGH_WATER if high else 0
        return None

    def state(self, state: State) -> object:
        """The channel's state changes."""
        self.decoder.state = state
        return None

    def ended(self, here: bool) -> object:
        """The channel has ended."""
        self.owner.end = PeerDisconnected("it is gone")
        self.owner.closed_here = here
        return None

    def drop(self) -> object:
        """Send nothing of what is queued."""
        return list(self._frames(b"".join(self.queue.drop())))

    def heartbeat(self) -> object:
        """Something that is not a message."""
        return self.queue.send_heartbeat()

    # --- what can be seen of it ---------------------------------------------------------------

    raised = False

    def name_of(self, found: re.Match[str]) -> str:
        """The name of an id that was drawn, or the id."""
        return self.names.get(int(found[0]), found[0])

    def _named(self, method: Callable[..., int], *arguments: Any) -> object:
        """What it returns or raises; ids that it draws get a name."""
        base = next_message_id()
        self.raised = True
        try:
            message_id = method(*arguments)
            self.raised = False
        finally:
            for drawn in range(base + 1, next_message_id()):
                self.names[drawn] = f"id {len(self.names)}"
        return self.names.get(message_id, message_id)

    def _frames(self, data: bytes) -> Iterator[object]:
        """The frames by the names of their ids."""
        at = 0
        while at + HEADER_SIZE <= len(data):
            channel, proto, status, message_id, headers, body = HEADER.unpack_from(data, at)
            stop = at + HEADER_SIZE + headers + body
            name = self.names.get(message_id, message_id)
            yield channel, proto, status, name, headers, data[at + HEADER_SIZE : stop]
            at = stop
        assert at == len(data), f"half a frame: {data[at:]!r}"

    def seen(self) -> dict[str, object]:
        """All that there is to see."""
        queue = self.queue
        return {
            "frames": list(self._frames(b"".join(queue.frames))),
            "long bodies": [len(piece) for piece in queue.frames if len(piece) >= LONG],
            "written": list(self._frames(b"".join(self.transport.written))),
            "writes": [len(data) for data in self.transport.written],
            "sent": queue.sent,
            "nbytes": (queue._nbytes, queue.nbytes, queue.given, queue.taken),
            "long": queue._long,
            "congested": (queue.congested, queue.paused, queue._turn_taken, queue.blocked),
            "watched": queue.watched_from,
            "writing": queue._writing,
            "carried": len(queue.carried),
            "soon": len(self.owner.soon),
            "told": self.owner.told,
            "pool": (len(self.pool.free), len(self.pool.reserves)),
            "state": self.decoder.state,
            "drawn": len(self.names),
        }


def compare(operations: Sequence[Operation]) -> None:
    """Do the same to both, and find both the same after each step."""
    sides = Side(compiled=True), Side(compiled=False)
    done: list[Operation] = []
    for name, *arguments in operations:
        done.append((name, *arguments))
        results = [_result_of(side, getattr(side, name), arguments) for side in sides]
        assert results[0] == results[1], f"another result after {done}"
        compiled, plain = (side.seen() for side in sides)
        assert compiled == plain, f"another state after {done}"


def _result_of(side: Side, method: Callable[..., object], arguments: Sequence[Any]) -> object:
    try:
        return method(*arguments)
    except Exception as error:
        text = re.sub(r"(?<=message id is )\d+", side.name_of, str(error))
        return type(error), text, type(error.__cause__), error.__suppress_context__
