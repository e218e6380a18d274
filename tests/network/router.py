"""A router in user space, between two machines in network namespaces: ``router SEED``.

It forwards IPv4 packets between the TUN devices ``a`` and ``b``, and does to them what ``tc netem``
would do. It is used in its place because it works on every kernel that has namespaces, changes
from one packet to the next, and drops the same packets in each run: a seed decides.

It makes the devices in its own namespace, from where ``ip link set a netns ...`` moves each to its
machine. Each line of stdin is a command in JSON, and is answered by a line on stdout. It ends with
stdin.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import struct
import sys
import time
from typing import Any, Final

from tests.network import packets
from tests.network.line import Conditions, Line
from tests.network.translation import Translation

ADDRESS: Final = "10.77.0.1"
"""The router's own, from which its ICMP messages come."""

_TUNSETIFF: Final = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_LONGEST: Final = 65_536


def made_device(name: str) -> int:
    """Make a TUN device in this namespace and return its descriptor, which does not block."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(
        descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI)
    )
    return descriptor


class Router:
    """The devices, and the lines between them."""

    def __init__(self, seed: str) -> None:
        self._devices: dict[str, int] = {}
        # The line from each machine to the other one.
        self._lines = {name: Line(f"{seed}/{name}") for name in ("a", "b")}
        self._translation: Translation | None = None
        self._commands = b""

    def run(self) -> None:
        """Forward packets and carry out commands until stdin ends."""
        while True:
            waits = [line.next_at() for line in self._lines.values()]
            next_at = min((at for at in waits if at is not None), default=None)
            timeout = None if next_at is None else max(0.0, next_at - time.monotonic())
            readable, _, _ = select.select([0, *self._devices.values()], [], [], timeout)
            for name, device in list(self._devices.items()):
                if device in readable:
                    self._take(name, device)
            self._deliver()
            if 0 in readable and not self._obey():
                return

    def _take(self, name: str, device: int) -> None:
        try:
            packet = os.read(device, _LONGEST)
        except BlockingIOError:
            return
        except OSError:  # its machine is gone
            os.close(self._devices.pop(name))
            return
        if packets.is_ipv4(packet):
            self._forward(name, device, packet)

    def _forward(self, name: str, device: int, packet: bytes) -> None:
        line = self._lines[name]
        mtu = line.conditions.mtu
        if mtu and len(packet) > mtu and not packets.may_be_fragmented(packet):
            line.counts.too_long += 1
            _write(device, packets.too_long(packet, packets.packed(ADDRESS), mtu))
            return
        translation = self._translation
        if translation is not None:
            outward = name == "a"
            changed = translation.outward(packet) if outward else translation.inward(packet)
            if changed is None:
                line.counts.dropped += 1
                return
            packet = changed
        line.put(packet, time.monotonic())

    def _deliver(self) -> None:
        now = time.monotonic()
        for name, other in ("a", "b"), ("b", "a"):
            for packet in self._lines[name].due(now):
                device = self._devices.get(other)
                if device is not None:
                    _write(device, packet)

    def _obey(self) -> bool:
        """Carry out the commands that have arrived; return False at the end of stdin."""
        data = os.read(0, _LONGEST)
        *lines, self._commands = (self._commands + data).split(b"\n")
        for line in lines:
            print(json.dumps(self._obeyed(json.loads(line))), flush=True)
        return bool(data)

    def _obeyed(self, command: dict[str, Any]) -> object:
        match command:
            case {"device": name}:
                if name in self._devices:
                    os.close(self._devices.pop(name))
                self._devices[name] = made_device(name)
            case {"conditions": fields}:
                for line in self._lines.values():
                    line.set(Conditions(**fields))
            case {"translate": address, "idle": idle}:
                self._translation = Translation(address, idle)
            case {"forget": True}:
                assert self._translation is not None
                self._translation.forget()
            case {"counts": True}:
                return {name: line.counted() for name, line in self._lines.items()}
            case _:
                raise ValueError(f"no command: {command}")
        return {}


def _write(device: int, packet: bytes) -> None:
    with contextlib.suppress(OSError):  # its machine has no power: nobody hears the packet
        os.write(device, packet)


if __name__ == "__main__":
    Router(sys.argv[1]).run()
