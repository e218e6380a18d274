"""One direction of a simulated connection: bytes, in order, on their way to the other end."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from .network import magnitude

if TYPE_CHECKING:
    from .ends import End, Fabric


class Pipe:
    """From one end's writes to the other end's reads.

    What is written waits at the sender (``unsent``), flies in segments, and waits at the receiver
    (``arrived``), which has room for so much only: a receiver who does not read stops the sender.

    Args:
        fabric: the network that it is part of.
        name: who sends, for the trace.
        source: the end that writes.

    Attributes:
        target: the end that reads.
        arrived: what can be read now.
        ended: the sender's last word has arrived: nothing comes after ``arrived``.
        shut: the sender has said its last word.
    """

    def __init__(self, fabric: Fabric, name: str, source: End) -> None:
        self._fabric = fabric
        self._network = fabric.network
        self._kernel = fabric.kernel
        self._name = name
        self.source = source
        self.target: End
        self.arrived = bytearray()
        self.ended = False
        self.shut = False
        self._unsent = bytearray()
        self._flying = 0
        self._free_at = 0.0  # when the wire has room for the next segment
        self._lands_at = 0.0  # when the last one arrives: none overtakes it
        self._cut = False  # nothing leaves any more
        self._severed = False  # by the network: the sender does not know
        self._reset = False
        self._speed = magnitude(self._kernel.random, *self._network.bandwidth)

    @property
    def room(self) -> int:
        """How many bytes can be written now."""
        return self._network.send_buffer - self.under_way

    @property
    def under_way(self) -> int:
        """Bytes that were written and have not arrived."""
        return len(self._unsent) + self._flying

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Take the beginning of the data; return how much. 0 when it is full."""
        most = int(magnitude(self._kernel.random, *self._network.writes))
        piece = bytes(data[: max(0, min(self.room, most))])
        if self._severed:
            self._kernel.at(self._landing(0), self.source.lose)
            return len(piece)
        self._unsent += piece
        self._pump()
        return len(piece)

    def read(self, most: int) -> bytes:
        """The next bytes that have arrived: one at least, if there are any."""
        most = min(most, int(magnitude(self._kernel.random, *self._network.reads)))
        piece = bytes(memoryview(self.arrived)[:most])
        del self.arrived[:most]
        self._pump()
        return piece

    def shut_down(self) -> None:
        """After what was written the end of the stream follows."""
        if not self.shut:
            self.shut = True
            self._pump()

    def reset(self) -> None:
        """Drop what has not left; after what has, the receiver sees that all is over."""
        if not self._reset:
            self._reset = True
            self.drop()
            self._kernel.at(self._landing(0), self.target.lose)

    def drop(self) -> None:
        """What has not left never will."""
        self._cut = True
        self._unsent.clear()

    def stall(self, seconds: float) -> None:
        """Hold up what is sent from now on, in order as ever."""
        self._free_at = max(self._free_at, self._kernel.now) + seconds

    def opens_at(self, when: float) -> None:
        """Nothing arrives before: the receiver does not know of the connection yet."""
        self._lands_at = when

    def check(self) -> None:
        """Hold that the buffers keep their bounds."""
        network = self._network
        assert self.under_way <= network.send_buffer, "the sender has too much"
        assert self._flying + len(self.arrived) <= network.receive_buffer, "too much has arrived"

    # --- on the way -----------------------------------------------------------------------

    def _pump(self) -> None:
        """Send off as much as the receiver has room for."""
        while self._unsent and not self._cut:
            window = self._network.receive_buffer - self._flying - len(self.arrived)
            if window <= 0:
                return
            most = int(magnitude(self._kernel.random, *self._network.segments))
            segment = bytes(memoryview(self._unsent)[: min(window, most)])
            del self._unsent[: len(segment)]
            self._send(segment)
        if self.shut and not self._unsent and not self._cut:
            self._cut = True
            self._kernel.at(self._landing(0), self._end)

    def _send(self, segment: bytes) -> None:
        random, network = self._kernel.random, self._network
        if network.stalls and random.random() < network.stalls:
            seconds = magnitude(random, *network.stall_times)
            self._fabric.trace.add(self._name, "is held up for", f"{seconds:.3f} s")
            self.stall(seconds)
        self._flying += len(segment)
        self._fabric.checksum = zlib.crc32(segment, self._fabric.checksum)
        self._kernel.at(self._landing(len(segment)), lambda: self._arrive(segment))
        if network.resets and random.random() < network.resets:
            self._fabric.trace.add(self._name, "is reset by the network")
            self.source.break_down()
        elif network.half_closes and random.random() < network.half_closes:
            self._fabric.trace.add(self._name, "is cut off by the network")
            self._unsent.clear()
            self._severed = True
            self.shut_down()

    def _landing(self, size: int) -> float:
        """When something of this size that leaves now arrives."""
        kernel = self._kernel
        self._free_at = max(self._free_at, kernel.now) + size / self._speed
        arrival = self._free_at + magnitude(kernel.random, *self._network.latency)
        self._lands_at = max(self._lands_at, arrival)
        return self._lands_at

    def _arrive(self, segment: bytes) -> None:
        self._flying -= len(segment)
        self._fabric.trace.add(self._name, "arrives", len(segment))
        if self.target.closed:
            # Nobody is there to read it: the sender is told, in its own time.
            self.target.outgoing.reset()
        else:
            self.arrived += segment
        self.target.stir()
        self.source.stir()

    def _end(self) -> None:
        self.ended = True
        self._fabric.trace.add(self._name, "ends")
        self.target.stir()
