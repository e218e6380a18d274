"""A feature and a fault: a client on machine a, a service on machine b, and what a test does."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from tests.network.faults import (
    BadLine,
    Break,
    Fault,
    ForgetfulTranslation,
    PowerLoss,
    ShortPartition,
)
from tests.network.line import Conditions
from tests.network.machines import ADDRESSES, Network
from tests.network.programs import Program

_ADDRESS = f"tcp://{ADDRESSES['b']}:7000"
_MOST_ROUNDS = 200
_LOST = 2
"""Packets that are lost in a short partition before it ends."""


class Scene:
    """The programs of a feature, in a network in which a fault happens.

    Args:
        network: entered.
        fault: which happens.
        feature: the module in ``features`` whose functions the programs run.
        loop: on which loop.

    Attributes:
        network: as given.
        server, client: the programs, once they are started.
    """

    server: Program
    client: Program

    def __init__(self, network: Network, fault: Fault, feature: str, loop: str) -> None:
        self.network = network
        self._fault = fault
        self._feature = feature
        self._loop = loop
        self._victim = "b"
        if isinstance(self._fault, BadLine):
            network.set(self._fault.conditions)
        elif isinstance(self._fault, Break):
            self._fault.prepare(network)

    @property
    def loses_power(self) -> bool:
        """Whether the victim has lost its memory when the fault has passed."""
        return isinstance(self._fault, PowerLoss)

    @property
    def reachable(self) -> bool:
        """Whether a new connection is possible while the fault lasts."""
        return isinstance(self._fault, ForgetfulTranslation)

    def begin(self, *orders: str) -> None:
        """Start the service and the client, and wait until they are connected.

        Args:
            orders: for the service, before it listens.
        """
        self.client = self._start("a", "ask")
        self.start_server(*orders)
        self.client.tell("begin")
        self.client.expect("connected")

    def start_server(self, *orders: str) -> None:
        """Start the service and wait until it listens."""
        self.server = self._start("b", "serve")
        for order in ("begin", *orders):
            self.server.tell(order)
        self.server.expect("listening")

    def play(self, start: Callable[[], object], finish: Callable[[], object]) -> None:
        """Play rounds until the fault has been seen, and one more.

        Args:
            start: of a round: gives orders.
            finish: of a round: waits for the reports.
        """
        start()
        finish()
        if isinstance(self._fault, BadLine):
            self._repeated(self._fault, start, finish)
        with self.partitioned():
            start()
        finish()

    @contextlib.contextmanager
    def partitioned(self) -> Iterator[None]:
        """If the fault is a short partition, let it begin now, and end when packets were lost."""
        lost = self.network.count("dropped")
        if isinstance(self._fault, ShortPartition):
            self.network.set(Conditions(cut=True))
        yield
        if isinstance(self._fault, ShortPartition):
            self.network.wait("dropped", lost + _LOST)
            self.network.set(Conditions())

    def _repeated(
        self, fault: BadLine, start: Callable[[], object], finish: Callable[[], object]
    ) -> None:
        rounds = 0
        while self.network.count(fault.sign) < fault.enough:
            rounds += 1
            assert rounds < _MOST_ROUNDS, f"too few packets were {fault.sign}"
            start()
            finish()

    def strike(self, victim: str = "b") -> None:
        """Let the fault end the connection.

        Args:
            victim: the machine that loses power, if it is that.
        """
        assert isinstance(self._fault, Break)
        self._victim = victim
        self._fault.strike(self.network, victim)

    def pass_by(self) -> None:
        """Let the fault pass. The service is started again if its machine had lost power."""
        assert isinstance(self._fault, Break)
        self._fault.pass_by(self.network, self._victim)
        if self.loses_power and self._victim == "b":
            self.start_server()

    def survivors(self) -> list[Program]:
        """The programs that are still there after the fault has struck."""
        programs = {"a": self.client, "b": self.server}
        if self.loses_power:
            del programs[self._victim]
        return list(programs.values())

    def _start(self, machine: str, role: str) -> Program:
        arguments = [self._feature, role, self._loop, _ADDRESS]
        return self.network.start(machine, "tests.network.peer", *arguments)
