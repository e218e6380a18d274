"""What can happen to a network, and how that is made to happen here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from tests.network.line import Conditions
from tests.network.machines import OTHER_ADDRESS, Network

_FAULTLESS: Final = Conditions()
_CUT: Final = Conditions(cut=True)


@dataclass(frozen=True)
class BadLine:
    """Packets suffer from before the first one on, and all the time.

    Attributes:
        conditions: what they suffer.
        sign: what the router counts of that.
        enough: how much of it a test must have seen.
    """

    conditions: Conditions
    sign: str
    enough: int = 3


@dataclass(frozen=True)
class ShortPartition:
    """Nothing gets through, and then everything again, before anybody has noticed."""


class Break(ABC):
    """The connection breaks, and neither end is told."""

    def prepare(self, network: Network) -> None:  # noqa: B027 - most need nothing
        """Make the network as it has to be before the connection is made."""

    @abstractmethod
    def strike(self, network: Network, victim: str) -> None:
        """Break it. The victim is the machine that loses power, if it is that."""

    @abstractmethod
    def pass_by(self, network: Network, victim: str) -> None:
        """Let connections be possible again."""


class Partition(Break):
    """Nothing gets through for long."""

    def strike(self, network: Network, victim: str) -> None:
        """Cut the line."""
        network.set(_CUT)

    def pass_by(self, network: Network, victim: str) -> None:
        """Mend it."""
        network.set(_FAULTLESS)


class VanishingAddress(Break):
    """The client's machine loses its address, and gets another one later."""

    def strike(self, network: Network, victim: str) -> None:
        """Take the address."""
        network.remove_address("a")

    def pass_by(self, network: Network, victim: str) -> None:
        """Give another one."""
        network.add_address("a", OTHER_ADDRESS)


class ForgetfulTranslation(Break):
    """The client is behind an address translation, which forgets its connections."""

    def prepare(self, network: Network) -> None:
        """Put it there."""
        network.translate()

    def strike(self, network: Network, victim: str) -> None:
        """Let the translation forget."""
        network.forget()

    def pass_by(self, network: Network, victim: str) -> None:
        """New connections were possible all the time."""


class PowerLoss(Break):
    """A machine loses power, and starts again later."""

    def strike(self, network: Network, victim: str) -> None:
        """Take the power."""
        network.power_off(victim)

    def pass_by(self, network: Network, victim: str) -> None:
        """Give it back. The programs must be started again."""
        network.power_on(victim)


Fault: TypeAlias = BadLine | ShortPartition | Break


@dataclass(frozen=True)
class Row:
    """A fault as the documentation names it."""

    name: str
    here: str
    fault: Fault = field(repr=False)


ROWS: Final = {
    "loss_1": Row(
        "1 % loss",
        "of each hundred packets in a direction, one is dropped, at a random place",
        BadLine(Conditions(lose=100), "dropped"),
    ),
    "loss_10": Row(
        "10 % loss",
        "of each ten packets in a direction, one is dropped, at a random place",
        BadLine(Conditions(lose=10), "dropped"),
    ),
    "delay": Row(
        "200 ms delay",
        "each packet takes 150 to 250 ms, so an answer takes 300 to 500 ms",
        BadLine(Conditions(delay=0.2, jitter=0.05), "delayed"),
    ),
    "slow": Row(
        "1 Mbit/s",
        "each direction has that rate and a queue of 0.4 s, and drops what does not fit",
        BadLine(Conditions(rate=1_000_000), "queued"),
    ),
    "reorder": Row(
        "reordering",
        "one packet of four is held back for 20 ms, and those behind it overtake it",
        BadLine(Conditions(overtake=4), "held_back"),
    ),
    "mtu": Row(
        "MTU 576",
        "a router between two links of 1,500 bytes takes 576, and says so by ICMP",
        BadLine(Conditions(mtu=576), "too_long", 1),
    ),
    "short_partition": Row(
        "short partition",
        "nothing gets through until two packets were lost, and then everything again, within an "
        "interval of the heartbeat",
        ShortPartition(),
    ),
    "partition": Row(
        "long partition",
        "nothing gets through for longer than three intervals of the heartbeat",
        Partition(),
    ),
    "address": Row(
        "address vanishes",
        "the client's machine loses its address (`ip addr del`), and gets another one later",
        VanishingAddress(),
    ),
    "nat": Row(
        "NAT forgets",
        "the client is behind a network address translation, which forgets its connections and "
        "drops their packets without an answer",
        ForgetfulTranslation(),
    ),
    "power": Row(
        "power loss",
        "the link is down before the processes are killed, so no FIN and no RST leaves; the "
        "machine starts again later",
        PowerLoss(),
    ),
}
