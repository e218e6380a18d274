"""A simulated world for tests: virtual time, and a network that misbehaves the same way each time.

The engine, and any asyncio program that makes its sockets through the loop, runs in it unchanged::

    from tofu_aio import testing

    testing.run(main(), seed=7)                    # asyncio.run, without waiting
    testing.simulate(program, seeds=range(1000))   # a thousand runs, each different
"""

from .checks import Delivery, PoolCheck
from .deadlock import Deadlock
from .ends import Link
from .loop import SimulatedLoop
from .network import Network
from .trace import Trace
from .world import Program, World, run, simulate

__all__ = [
    "Deadlock",
    "Delivery",
    "Link",
    "Network",
    "PoolCheck",
    "Program",
    "SimulatedLoop",
    "Trace",
    "World",
    "run",
    "simulate",
]
