"""asyncio's selector loop on a simulated system."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine, Generator
from itertools import count
from typing import Final, Protocol, TypeAlias, TypeVar, cast

from .fabric import Fabric
from .kernel import Kernel
from .socket_module import Found, Sockets
from .sockets import SimulatedSocket

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Connected: TypeAlias = tuple[asyncio.Transport, asyncio.BaseProtocol]

_RESOLUTION: Final = 1e-9
"""Seconds. Timers that are closer together are due at the same time, as in asyncio on Linux."""


class SimulatedLoop(asyncio.SelectorEventLoop):
    """asyncio's selector loop and its transports, in virtual time and over simulated sockets.

    It uses no real sockets and no threads, and never sleeps. The hash of a task or a future is a
    number in the order of creation, so that sets of them have the same order in each run.

    Attributes:
        socket_module: creates the sockets for this loop, in place of the module ``socket``.
    """

    def __init__(self, kernel: Kernel, fabric: Fabric) -> None:
        self._kernel = kernel
        self._numbers = count(1)
        super().__init__(kernel)
        self.socket_module = Sockets(fabric)
        self._clock_resolution = _RESOLUTION
        self.set_task_factory(self._make_task)

    def time(self) -> float:
        """The virtual time, in seconds."""
        return self._kernel.now

    def create_future(self) -> asyncio.Future[T]:
        """Create a future whose hash is a number."""
        return _Future(next(self._numbers), self)

    async def getaddrinfo(  # type: ignore[override]
        self,
        host: str | bytes | None,
        port: str | bytes | int | None,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002 - the name that asyncio uses
        proto: int = 0,
        flags: int = 0,
    ) -> list[Found]:
        """Look up a name, which takes some virtual time."""
        await asyncio.sleep(self._kernel.random.uniform(0, 0.01))
        name = host.decode() if isinstance(host, bytes) else host
        number = port.decode() if isinstance(port, bytes) else port
        return self.socket_module.getaddrinfo(name, number, family, type, proto, flags)

    async def create_connection(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str | None = None,
        port: int | None = None,
        *,
        sock: object = None,
        **options: object,
    ) -> Connected:
        """Connect as on any loop, to the first of the host's addresses that accepts."""
        if sock is None:
            sock = await self._connected(host, port)
            if options.get("ssl"):
                options.setdefault("server_hostname", host)
        create = cast("_Create[Connected]", super().create_connection)
        return await create(protocol_factory, sock=sock, **options)

    async def create_server(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str | None = None,
        port: int | None = None,
        *,
        sock: object = None,
        **options: object,
    ) -> asyncio.Server:
        """Listen as on any loop, on the first of the host's addresses."""
        if sock is None:
            family, _, proto, _, name = (
                await self.getaddrinfo(host or None, port or 0, flags=socket.AI_PASSIVE)
            )[0]
            sock = self.socket_module.socket(family, socket.SOCK_STREAM, proto)
            sock.bind(name)
        create = cast("_Create[asyncio.Server]", super().create_server)
        return await create(protocol_factory, sock=sock, **options)

    def run_in_executor(self, *_: object) -> asyncio.Future[T]:
        """Not supported: threads would make runs different.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("a simulated world has no threads: call the function directly")

    async def _connected(self, host: str | None, port: int | None) -> SimulatedSocket:
        failures = []
        for family, _, proto, _, name in await self.getaddrinfo(host, port):
            sock = self.socket_module.socket(family, socket.SOCK_STREAM, proto)
            try:
                await self.sock_connect(cast("socket.socket", sock), cast("str", name))
            except OSError as error:
                failures.append(error)
                sock.close()
            except BaseException:
                sock.close()
                raise
            else:
                return sock
        raise failures[0]

    def _make_task(
        self,
        _: asyncio.AbstractEventLoop,
        coro: Coroutine[object, object, T] | Generator[object, None, T],
        **options: object,
    ) -> asyncio.Task[T]:
        number = next(self._numbers)
        options["name"] = options.get("name") or f"task {number}"
        return _Task(number, self, coro, **options)

    def _start_serving(
        self, factory: object, sock: SimulatedSocket, *rest: object, **more: object
    ) -> None:
        # After a shortage of descriptors asyncio tries again a second later. If the socket was
        # closed meanwhile, a callback raises, which would count as an error of the program.
        if sock.fileno() >= 0:
            super()._start_serving(factory, sock, *rest, **more)  # type: ignore[misc]

    # There are no other threads, so nothing has to wake this one up.
    def _make_self_pipe(self) -> None:
        pass

    def _close_self_pipe(self) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


class _Create(Protocol[T_co]):
    """asyncio's ``create_connection`` or ``create_server`` with a socket, without the overloads."""

    def __call__(
        self, factory: Callable[[], asyncio.BaseProtocol], *, sock: object, **options: object
    ) -> Awaitable[T_co]: ...


class _Future(asyncio.Future[T]):
    def __init__(self, number: int, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._number = number

    def __hash__(self) -> int:
        return self._number


class _Task(asyncio.Task[T]):
    def __init__(
        self,
        number: int,
        loop: asyncio.AbstractEventLoop,
        coro: Coroutine[object, object, T] | Generator[object, None, T],
        **options: object,
    ) -> None:
        self._number = number  # first, because the constructor puts the task into a set
        super().__init__(coro, loop=loop, **options)  # type: ignore[arg-type]

    def __hash__(self) -> int:
        return self._number

    def set_name(self, value: object) -> None:
        # Python 3.13.0 sets the name to None if none was given.
        if value is not None:
            super().set_name(value)
