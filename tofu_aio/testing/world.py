"""A simulated world: one seed, one run, always the same."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
from collections.abc import Callable, Coroutine, Iterable, Iterator
from random import Random
from typing import Final, TypeAlias, TypeVar

from .deadlock import Deadlock, report
from .ends import Fabric, Link
from .kernel import Kernel
from .loop import SimulatedLoop
from .network import Network
from .trace import Trace

T = TypeVar("T")

Program: TypeAlias = "Callable[[World], Coroutine[object, object, object]]"
"""What runs in a world: an async function that takes it."""

TIME_LIMIT: Final = 3600.0
"""Seconds of virtual time after which a run is taken for one that never ends."""

_COLLECTING: Final = 10_000
"""Turns between collections of garbage. Python's own would come at other moments in each run."""

_SHORTAGE: Final = "socket.accept() out of system resource"
"""What asyncio reports when accepting fails for want of descriptors; it tries again by itself."""


class World:
    """Virtual time, a simulated network, and one program that runs in them.

    Everything in it is decided by the seed: which bytes travel together, how long that takes,
    what breaks, in which order descriptors are ready. The engine, and any asyncio program that
    uses sockets through its loop, runs in it unchanged.

    Args:
        seed: what all chance is drawn from.
        network: what the network is like; or what draws one, ``Network.drawn`` say.
        time_limit: seconds of virtual time that the run may take.

    Attributes:
        seed: as given.
        network: what the network is like.
        random: for the program's own draws; they and the network's do not disturb each other.
        trace: what has happened, by ``note`` and in the network.
    """

    def __init__(
        self,
        seed: int = 0,
        network: Network | Callable[[Random], Network] | None = None,
        *,
        time_limit: float = TIME_LIMIT,
    ) -> None:
        self.seed = seed
        if callable(network):
            network = network(Random(f"{seed} network"))  # noqa: S311 - not a secret
        self.network = network if network is not None else Network()
        self.random = Random(f"{seed} program")  # noqa: S311
        self._kernel = Kernel(Random(f"{seed} kernel"), time_limit)  # noqa: S311
        self.trace = Trace(lambda: self._kernel.now)
        self._fabric = Fabric(self._kernel, self.network, self.trace)
        self._turns = 0
        self._kernel.watchers.append(self._collect)
        self._raised: list[Exception] = []
        self._explanations: list[Callable[[], str]] = []
        self._loop: SimulatedLoop | None = None

    @property
    def time(self) -> float:
        """The virtual time, in seconds since the world began; the loop's ``time()``."""
        return self._kernel.now

    @property
    def links(self) -> list[Link]:
        """The connections that are open, the oldest first."""
        return [link for link in self._fabric.links if not link.over]

    @property
    def open_sockets(self) -> int:
        """How many descriptors are open: none should be left when a program has ended."""
        return len(self._kernel.descriptors)

    @property
    def checksum(self) -> int:
        """Of all bytes that have travelled so far, in order."""
        return self._fabric.checksum

    def note(self, who: object, what: str, detail: object = "") -> None:
        """Add a line of the program's own to the trace."""
        self.trace.add(str(who), what, detail)

    def watch(self, check: Callable[[], object]) -> None:
        """Call ``check`` after each turn of the loop. What it raises ends the run."""
        self._kernel.watchers.append(check)

    def explain(self, explain: Callable[[], str]) -> None:
        """Have a deadlock's text say more, at its end."""
        self._explanations.append(explain)

    def run(self, main: Coroutine[object, object, T]) -> T:
        """Run it until it is done, as ``asyncio.run`` does, and return its result.

        A world can be used once.

        Raises:
            Deadlock: main waits, and nothing can happen any more; or the run has taken more than
                ``time_limit``. The text says who waits for what.
            ExceptionGroup: callbacks, or tasks that nobody waited for, raised: what any other
                loop would only have logged.
        """
        if self._loop is not None:
            main.close()
            raise RuntimeError("a world runs once: make another one with the same seed")
        with _repeatable(self.seed):
            loop = self._loop = SimulatedLoop(self._kernel, self._fabric)
            loop.set_debug(False)
            loop.set_exception_handler(self._hear)
            try:
                result = self._run(loop, main)
            finally:
                self._end(loop)
        if self._raised:
            raise ExceptionGroup("the loop heard of what nobody caught", self._raised)
        return result

    def _run(self, loop: SimulatedLoop, main: Coroutine[object, object, T]) -> T:
        task = loop.create_task(main, name="main")
        try:
            return loop.run_until_complete(task)
        except Deadlock as deadlock:
            tasks = sorted(asyncio.all_tasks(loop), key=hash)
            said = [report(str(deadlock), tasks), *(explain() for explain in self._explanations)]
            raise Deadlock("\n".join(said)) from None

    def _end(self, loop: SimulatedLoop) -> None:
        """Cancel what is left, as ``asyncio.run`` does; what waits for ever is left there."""
        self._kernel.watchers.clear()
        self._kernel.extend(TIME_LIMIT)
        with contextlib.suppress(Deadlock):
            left = sorted(asyncio.all_tasks(loop), key=hash)
            for task in left:
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.wait(left))
            loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    def _hear(self, _: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        message, error = str(context.get("message")), context.get("exception")
        self.note("loop", message, repr(error or ""))
        if message != _SHORTAGE:
            found = error if isinstance(error, Exception) else RuntimeError(message)
            self._raised.append(found)

    def _collect(self) -> None:
        self._turns += 1
        if not self._turns % _COLLECTING:
            gc.collect()


def run(
    main: Coroutine[object, object, T],
    *,
    seed: int = 0,
    network: Network | Callable[[Random], Network] | None = None,
) -> T:
    """Run a program in a world of its own: ``asyncio.run`` in virtual time.

    Args:
        main: the program.
        seed: what all chance is drawn from.
        network: what the network is like.

    Raises:
        Deadlock, ExceptionGroup: as ``World.run``.
    """
    return World(seed, network).run(main)


def simulate(
    program: Program,
    seeds: Iterable[int] = range(100),
    network: Network | Callable[[Random], Network] | None = None,
) -> None:
    """Run a program once with each seed; the first that fails ends it.

    Args:
        program: an async function that takes its world.
        seeds: of the worlds.
        network: what the network is like; ``Network.drawn`` makes it different for each seed.

    Raises:
        Exception: what the program, or its world, has raised; notes at it have the seed and the
            end of the trace.
    """
    for seed in seeds:
        world = World(seed, network)
        try:
            world.run(program(world))
        except Exception as error:
            error.add_note(f"seed {seed} failed; what happened last:\n{world.trace.last()}")
            raise


@contextlib.contextmanager
def _repeatable(seed: int) -> Iterator[None]:
    """Make what the process does by chance the same each time, and as it was afterwards."""
    state, collecting = random.getstate(), gc.isenabled()
    random.seed(f"{seed} process")
    gc.disable()
    try:
        yield
    finally:
        random.setstate(state)
        if collecting:
            gc.enable()
