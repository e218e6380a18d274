"""What is tested over sockets holds over NATS as well: anyio's contract, and the API of channels.

The tests are those of other modules that take an address, or a pair of channels, from a fixture.
The fixtures of this folder give them a broker's.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from types import ModuleType

from tests.messaging import (
    test_channel,
    test_exchange,
    test_listener,
    test_send_nowait,
    test_statistics,
)
from tests.messaging.connection import test_drain
from tests.messaging.posting import test_posted
from tests.messaging.test_anyio_contract import *  # noqa: F403 - its fixtures and its own tests

MODULES = (
    test_channel,
    test_exchange,
    test_listener,
    test_send_nowait,
    test_statistics,
    test_drain,
    test_posted,
)
ADDRESSES = {"address", "pair", "transport_address"}
OTHERWISE = ("RawPeer", "tcp://", "uds://", "SIGKILL", "said_hello(")
"""What tests of sockets alone have in their source, and one of a process that the kernel ends."""


def taken_from(module: ModuleType) -> Iterator[tuple[str, Callable[..., object]]]:
    """The tests of a module that are not about sockets."""
    for name, function in vars(module).items():
        if name.startswith("test_") and inspect.iscoroutinefunction(function):
            source = inspect.getsource(function)
            takes_one = ADDRESSES & inspect.signature(function).parameters.keys()
            if takes_one and not any(word in source for word in OTHERWISE):
                yield name, function


for module in MODULES:
    for name, function in taken_from(module):
        globals()[f"{name}_of_{module.__name__.rpartition('.')[2]}"] = function
