"""Two machines and a router between them, each a network namespace of this one (Linux, root).

The names of the namespaces have the pid of the process that made them, so that what a killed run
has left can be told from what is in use.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final, Self

from tests.network.limits import PATIENCE
from tests.network.line import Conditions
from tests.network.programs import Program, started

_ROOT: Final = Path(__file__).parents[2]
_NAMES: Final = itertools.count(1)
_PREFIX: Final = "tofu"

ADDRESSES: Final = {"a": "10.77.1.2", "b": "10.77.2.2"}
OTHER_ADDRESS: Final = "10.77.1.3"
"""Another one for machine a."""

OUTSIDE: Final = "10.77.3.1"
"""The address of a's network address translation."""


@cache
def missing() -> str:
    """What this machine lacks for these tests; "" if nothing."""
    if sys.platform != "linux":
        return "network namespaces are of Linux"
    if os.geteuid() != 0:
        return "only root makes network namespaces: run the tests as root"
    if shutil.which("ip") is None:
        return "there is no ip(8): install iproute2"
    if not Path("/dev/net/tun").exists():
        return "there is no /dev/net/tun: the kernel has no TUN devices, or the container none"
    name = f"{_PREFIX}-{os.getpid()}-try"
    try:
        ip("netns", "add", name)
    except AssertionError as error:
        return f"no network namespace can be made: {error}"
    ip("netns", "del", name)
    return ""


def ip(*arguments: str) -> str:
    """Run ip(8); return what it prints."""
    ran = subprocess.run(["ip", *arguments], check=False, capture_output=True, text=True)
    assert not ran.returncode, f"ip {' '.join(arguments)}: {ran.stderr.strip()}"
    return ran.stdout


def remove_leftovers() -> None:
    """Remove the namespaces of runs that were killed, with the processes in them."""
    for name in re.findall(rf"^({_PREFIX}-\d+-\S+)", ip("netns", "list"), re.MULTILINE):
        if not Path("/proc", name.split("-")[1]).exists():
            with contextlib.suppress(AssertionError):  # another run was quicker
                _remove(name)


def _remove(name: str) -> None:
    """Kill what runs in a namespace, and remove it."""
    for pid in ip("netns", "pids", name).split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    ip("netns", "del", name)


class Network:
    """The machines ``a`` and ``b``, whose packets to each other a router forwards.

    Enter it; at the end of the block nothing is left of it, whatever happened meanwhile.

    Args:
        seed: decides which packets the router drops.

    Attributes:
        name: with which the names of its namespaces begin.
    """

    def __init__(self, seed: str = "") -> None:
        self.name = f"{_PREFIX}-{os.getpid()}-{next(_NAMES)}"
        self._seed = seed
        self._namespaces: list[str] = []
        self._programs: dict[str, list[Program]] = {"a": [], "b": [], "r": []}
        self._router: Program

    def __enter__(self) -> Self:
        try:
            for machine in "abr":
                self._add(machine)
            self._router = self._start("r", "-m", "tests.network.router", self._seed)
            for machine in "ab":
                self._plug(machine)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for programs in self._programs.values():
            for program in programs:
                program.kill()
        for name in self._namespaces:
            with contextlib.suppress(AssertionError):
                _remove(name)

    # --- machines -------------------------------------------------------------------------

    def start(self, machine: str, module: str, *arguments: str) -> Program:
        """Start a Python module on a machine."""
        return self._start(machine, "-X", "dev", "-m", module, *arguments)

    def remove_address(self, machine: str) -> None:
        """Take a machine's address away. The kernel removes the route with it."""
        address = f"{ADDRESSES[machine]}/24"
        ip("-n", self._namespace(machine), "addr", "del", address, "dev", machine)

    def add_address(self, machine: str, address: str) -> None:
        """Give a machine an address, and its route to everybody else."""
        namespace = self._namespace(machine)
        ip("-n", namespace, "addr", "add", f"{address}/24", "dev", machine)
        ip("-n", namespace, "route", "add", "default", "dev", machine)

    def power_off(self, machine: str) -> None:
        """Let a machine lose power: nothing leaves it any more, no FIN and no RST."""
        namespace = self._namespace(machine)
        ip("-n", namespace, "link", "set", "dev", machine, "down")
        for program in self._programs[machine]:
            program.kill()
        _remove(namespace)
        self._namespaces.remove(namespace)

    def power_on(self, machine: str) -> None:
        """Start a machine again. It has its address, and knows nothing of its connections."""
        self._add(machine)
        self._plug(machine)

    # --- the router -----------------------------------------------------------------------

    def set(self, conditions: Conditions) -> None:
        """Treat packets in another way from now on."""
        self._command(conditions=vars(conditions))

    def translate(self, idle: float = 0.0) -> None:
        """Put machine a behind a network address translation.

        Args:
            idle: seconds without a packet after which it forgets a connection; 0 for never.
        """
        self._command(translate=OUTSIDE, idle=idle)

    def forget(self) -> None:
        """Let the translation forget its connections."""
        self._command(forget=True)

    def count(self, what: str) -> int:
        """How many packets had a fate, in both directions together; see ``Counts``."""
        counted = self._command(counts=True)
        return sum(counted[machine][what] for machine in "ab")

    def wait(self, what: str, count: int) -> None:
        """Wait until as many packets had a fate since the network was made."""
        until(lambda: self.count(what) >= count, f"{count} packets that were {what}")

    def _command(self, **command: object) -> dict[str, Any]:
        self._router.tell(json.dumps(command))
        return self._router.read()

    # --- the parts ------------------------------------------------------------------------

    def _namespace(self, machine: str) -> str:
        return f"{self.name}-{machine}"

    def _add(self, machine: str) -> None:
        namespace = self._namespace(machine)
        ip("netns", "add", namespace)
        self._namespaces.append(namespace)
        ip("-n", namespace, "link", "set", "dev", "lo", "up")

    def _plug(self, machine: str) -> None:
        """Connect a machine with the router, by a device that the router makes."""
        self._command(device=machine)
        namespace = self._namespace(machine)
        ip("-n", self._namespace("r"), "link", "set", "dev", machine, "netns", namespace)
        ip("-n", namespace, "link", "set", "dev", machine, "up")
        self.add_address(machine, ADDRESSES[machine])

    def _start(self, machine: str, *arguments: str) -> Program:
        inside = ["ip", "netns", "exec", self._namespace(machine)]
        program = started([*inside, sys.executable, *arguments], _ROOT)
        self._programs[machine].append(program)
        return program


def until(predicate: Callable[[], object], what: str) -> None:
    """Ask again and again until the predicate holds."""
    patience_ends = time.monotonic() + PATIENCE
    while not predicate():
        assert time.monotonic() < patience_ends, f"waited in vain for {what}"
        time.sleep(0.01)
