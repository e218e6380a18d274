"""One direction of a simulated connection: bytes, in order, on their way to the other end."""

from __future__ import annotations

import zlib
from typing import Protocol

from .medium import Medium
from .network import magnitude


class PipeEnd(Protocol):
    """What a pipe needs to know of the two ends that it connects."""

    closed: bool

    def readiness_changed(self) -> None:
        """There is something to read, or room to write."""

    def receive_reset(self) -> None:
        """A reset has arrived."""

    def refuse_data(self) -> None:
        """Data has arrived after the end was closed."""

    def break_connection(self) -> None:
        """The network breaks the connection, in both directions."""


class Pipe:
    """Carries bytes from one end's writes to the other end's reads.

    Written bytes wait at the sender (``_unsent``), travel in segments, and wait at the receiver
    (``arrived``). The receiver's buffer is bounded, so a receiver that does not read stops the
    sender.

    Args:
        medium: what it shares with the other connections.
        name: the name of this direction in the trace.
        source: the end that writes.

    Attributes:
        target: the end that reads.
        arrived: the bytes that can be read now.
        eof_arrived: whether the end of the stream has arrived; nothing follows ``arrived`` then.
        finished: whether the sender has ended the stream.
    """

    def __init__(self, medium: Medium, name: str, source: PipeEnd) -> None:
        self._medium = medium
        self._kernel = medium.kernel
        self._network = medium.network
        self._trace = medium.trace
        self._name = name
        self.source = source
        self.target: PipeEnd
        self.arrived = bytearray()
        self.eof_arrived = False
        self.finished = False
        self._unsent = bytearray()
        self._travelling = 0  # bytes
        self._free_at = 0.0  # when the wire has room for the next segment
        self._last_arrival = 0.0  # when the last segment arrives; none overtakes it
        self._cut = False  # nothing leaves any more
        self._severed = False  # by the network, and the sender does not know it
        self._reset = False
        self._speed = magnitude(self._kernel.random, *self._network.bandwidth)

    @property
    def room(self) -> int:
        """How many bytes can be written now."""
        return self._network.send_buffer - self.in_flight

    @property
    def in_flight(self) -> int:
        """Bytes that were written and have not arrived."""
        return len(self._unsent) + self._travelling

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Take the beginning of the data, and return how many bytes; 0 if there is no room."""
        most = int(magnitude(self._kernel.random, *self._network.writes))
        piece = bytes(data[: max(0, min(self.room, most))])
        if self._severed:
            self._kernel.call_at(self._arrival_time(0), self.source.receive_reset)
            return len(piece)
        self._unsent += piece
        self._send_segments()
        return len(piece)

    def read(self, most: int) -> bytes:
        """Remove and return the next bytes that have arrived, at least one if there are any."""
        most = min(most, int(magnitude(self._kernel.random, *self._network.reads)))
        piece = bytes(memoryview(self.arrived)[:most])
        del self.arrived[:most]
        self._send_segments()
        return piece

    def finish(self) -> None:
        """End the stream after what was written."""
        if not self.finished:
            self.finished = True
            self._send_segments()

    def reset(self) -> None:
        """Discard what has not left. A reset follows what has, and arrives at the receiver."""
        if not self._reset:
            self._reset = True
            self.discard_unsent()
            self._kernel.call_at(self._arrival_time(0), self.target.receive_reset)

    def discard_unsent(self) -> None:
        """Discard what has not left, and send nothing more."""
        self._cut = True
        self._unsent.clear()

    def stall(self, seconds: float) -> None:
        """Delay what is sent from now on. The order does not change."""
        self._free_at = max(self._free_at, self._kernel.now) + seconds

    def open_at(self, when: float) -> None:
        """Let nothing arrive before this time: the receiver does not know the connection yet."""
        self._last_arrival = when

    def check(self) -> None:
        """Check that the buffers are within their limits."""
        network = self._network
        assert self.in_flight <= network.send_buffer, "the send buffer is over its limit"
        received = self._travelling + len(self.arrived)
        assert received <= network.receive_buffer, "the receive buffer is over its limit"

    # --- sending --------------------------------------------------------------------------

    def _send_segments(self) -> None:
        """Send as much as the receiver has room for."""
        while self._unsent and not self._cut:
            window = self._network.receive_buffer - self._travelling - len(self.arrived)
            if window <= 0:
                return
            most = int(magnitude(self._kernel.random, *self._network.segments))
            segment = bytes(memoryview(self._unsent)[: min(window, most)])
            del self._unsent[: len(segment)]
            self._send(segment)
        if self.finished and not self._unsent and not self._cut:
            self._cut = True
            self._kernel.call_at(self._arrival_time(0), self._deliver_eof)

    def _send(self, segment: bytes) -> None:
        random, network = self._kernel.random, self._network
        if network.stalls and random.random() < network.stalls:
            seconds = magnitude(random, *network.stall_times)
            self._trace.add(self._name, "is stalled for", f"{seconds:.3f} s")
            self.stall(seconds)
        self._travelling += len(segment)
        self._medium.checksum = zlib.crc32(segment, self._medium.checksum)
        self._kernel.call_at(self._arrival_time(len(segment)), lambda: self._deliver(segment))
        if network.resets and random.random() < network.resets:
            self._trace.add(self._name, "is reset by the network")
            self.source.break_connection()
        elif network.half_closes and random.random() < network.half_closes:
            self._trace.add(self._name, "is half-closed by the network")
            self._unsent.clear()
            self._severed = True
            self.finish()

    def _arrival_time(self, size: int) -> float:
        """When something of this size arrives if it leaves now."""
        kernel = self._kernel
        self._free_at = max(self._free_at, kernel.now) + size / self._speed
        arrival = self._free_at + magnitude(kernel.random, *self._network.latency)
        self._last_arrival = max(self._last_arrival, arrival)
        return self._last_arrival

    def _deliver(self, segment: bytes) -> None:
        self._travelling -= len(segment)
        self._trace.add(self._name, "arrives", len(segment))
        if self.target.closed:
            self.target.refuse_data()
        else:
            self.arrived += segment
        self.target.readiness_changed()
        self.source.readiness_changed()

    def _deliver_eof(self) -> None:
        self.eof_arrived = True
        self._trace.add(self._name, "ends")
        self.target.readiness_changed()
