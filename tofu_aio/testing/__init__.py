"""A simulated world for tests, with virtual time and a network whose faults are repeatable.

The engine, and any asyncio program that creates its sockets through the loop, runs unchanged::

    from tofu_aio import testing

    testing.run(main(), seed=7)                    # like asyncio.run, in virtual time
    testing.simulate(program, seeds=range(1000))   # a thousand different runs
"""

from .checks import Delivery, PoolCheck
from .deadlock import Deadlock
from .fabric import Link
from .loop import SimulatedLoop
from .network import Network
from .services import CallOptions, ClientFixture, ServeFixture, client_of, serving
from .trace import Trace
from .world import Program, World, run, simulate
from .worlds import WorldFixture

__all__ = [
    "CallOptions",
    "ClientFixture",
    "Deadlock",
    "Delivery",
    "Link",
    "Network",
    "PoolCheck",
    "Program",
    "ServeFixture",
    "SimulatedLoop",
    "Trace",
    "World",
    "WorldFixture",
    "client_of",
    "run",
    "serving",
    "simulate",
]
