"""What all connections of a simulated network have in common."""

from __future__ import annotations

from dataclasses import dataclass

from .kernel import Kernel
from .network import Network
from .trace import Trace


@dataclass
class Medium:
    """The time, the properties and the records that all connections of a network share.

    Attributes:
        kernel: the time, the descriptors, and the source of all random decisions.
        network: the network's properties.
        trace: where events are recorded.
        checksum: a checksum of all bytes that have travelled, in the order in which they left.
    """

    kernel: Kernel
    network: Network
    trace: Trace
    checksum: int = 0
