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
