"""A simulated world: each seed stands for one run, which can be repeated."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
from collections.abc import Callable, Coroutine, Iterable, Iterator
from random import Random
from typing import Final, TypeAlias, TypeVar

from .deadlock import Deadlock, report
from .fabric import Fabric, Link
from .kernel import Kernel
from .loop import SimulatedLoop
from .network import Network
from .trace import Trace

T = TypeVar("T")

Program: TypeAlias = "Callable[[World], Coroutine[object, object, object]]"
"""An async function that takes the world in which it runs."""

TIME_LIMIT: Final = 3600.0
"""Seconds of virtual time after which a run counts as one that never ends."""

_COLLECTING: Final = 10_000
"""Turns between garbage collections. Python's automatic ones would differ from run to run."""

_SHORTAGE: Final = "socket.accept() out of system resource"
"""asyncio reports this when accepting fails for want of descriptors, and tries again itself."""


class World:
    """Virtual time, a simulated network, and one program that runs in them.

    The seed decides everything in it: which bytes travel together, how long that takes, what
    breaks, and in which order descriptors become ready. The engine, and any asyncio program that
    uses sockets through its loop, runs unchanged.

    Args:
        seed: the source of all random decisions.
        network: the network's properties, or a function that draws them, such as
            ``Network.drawn``.
        time_limit: seconds of virtual time that the run may take.

    Attributes:
        seed: the seed.
        network: the network's properties.
        random: for the program's own random decisions, independent of the network's.
        trace: the events of the network, and those that ``note`` has added.
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
        """The virtual time, in seconds since the run began. It is the loop's ``time()``."""
        return self._kernel.now

    @property
    def links(self) -> list[Link]:
        """The connections that are not over, the oldest first."""
        return [link for link in self._fabric.links if not link.over]

    @property
    def open_sockets(self) -> int:
        """The number of open descriptors. After a program has ended it should be 0."""
        return len(self._kernel.descriptors)

    @property
    def checksum(self) -> int:
        """A checksum of all bytes that have travelled so far, in order."""
        return self._fabric.checksum

    def note(self, who: object, what: str, detail: object = "") -> None:
        """Add an event to the trace."""
        self.trace.add(str(who), what, detail)

    def watch(self, check: Callable[[], object]) -> None:
        """Call ``check`` after each turn of the loop. If it raises, the run ends."""
        self._kernel.watchers.append(check)

    def explain(self, explain: Callable[[], str]) -> None:
        """Append the text that ``explain`` returns to the text of a deadlock."""
        self._explanations.append(explain)

    def run(self, main: Coroutine[object, object, T]) -> T:
        """Run a coroutine until it is done, like ``asyncio.run``, and return its result.

        A world can run only once.

        Raises:
            Deadlock: main waits, and nothing can happen any more; or the run takes longer than
                ``time_limit``. The text says what each task waits for.
            ExceptionGroup: a callback raised, or a task that nobody awaited. Other loops only log
                such exceptions.
            RuntimeError: the world has run before.
        """
        if self._loop is not None:
            main.close()
            raise RuntimeError("a world can run only once: create another one with the same seed")
        with _repeatable(self.seed):
            loop = self._loop = SimulatedLoop(self._kernel, self._fabric)
            loop.set_debug(False)
            loop.set_exception_handler(self._handle_exception)
            try:
                result = self._run(loop, main)
            finally:
                self._clean_up(loop)
        if self._raised:
            raise ExceptionGroup("exceptions that the program did not handle", self._raised)
        return result

    def _run(self, loop: SimulatedLoop, main: Coroutine[object, object, T]) -> T:
        task = loop.create_task(main, name="main")
        try:
            return loop.run_until_complete(task)
        except Deadlock as deadlock:
            tasks = sorted(asyncio.all_tasks(loop), key=hash)
            text = [report(str(deadlock), tasks), *(explain() for explain in self._explanations)]
            raise Deadlock("\n".join(text)) from None

    def _clean_up(self, loop: SimulatedLoop) -> None:
        """Cancel the remaining tasks, like ``asyncio.run``, except those that never end."""
        self._kernel.watchers.clear()
        self._kernel.extend_time_limit(TIME_LIMIT)
        with contextlib.suppress(Deadlock):
            left = sorted(asyncio.all_tasks(loop), key=hash)
            for task in left:
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.wait(left))
            loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    def _handle_exception(self, _: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
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
    """Run a coroutine in a world of its own: ``asyncio.run`` in virtual time.

    Args:
        main: the coroutine.
        seed: the source of all random decisions.
        network: the network's properties, or a function that draws them.

    Raises:
        Deadlock, ExceptionGroup: see ``World.run``.
    """
    return World(seed, network).run(main)


def simulate(
    program: Program,
    seeds: Iterable[int] = range(100),
    network: Network | Callable[[Random], Network] | None = None,
) -> None:
    """Run a program once with each seed, and stop at the first failure.

    Args:
        program: an async function that takes its world.
        seeds: the seeds of the worlds.
        network: the network's properties, or a function that draws them: ``Network.drawn`` draws
            a different network for each seed.

    Raises:
        Exception: whatever the program or its world raised. A note on the exception has the seed
            and the end of the trace.
    """
    for seed in seeds:
        world = World(seed, network)
        try:
            world.run(program(world))
        except Exception as error:
            error.add_note(f"seed {seed} failed after these events:\n{world.trace.last()}")
            raise


@contextlib.contextmanager
def _repeatable(seed: int) -> Iterator[None]:
    """Seed the process's ``random`` and stop automatic garbage collection; restore both after."""
    state, collecting = random.getstate(), gc.isenabled()
    random.seed(f"{seed} process")
    gc.disable()
    try:
        yield
    finally:
        random.setstate(state)
        if collecting:
            gc.enable()
