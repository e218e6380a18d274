"""The simple cases: one channel, or one service, with an engine of its own."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Unpack

from ..messaging.options import (
    ClientOptions,
    ConnectOptions,
    ListenOptions,
    ReconnectingClientOptions,
    ReconnectOptions,
    ServerOptions,
    split,
)
from ..protocol.address import Address, parse_address
from ..reactor import LoopFactory, new_event_loop
from .channel import Channel
from .closing import Closing
from .engine import Engine
from .listener import Listener
from .serving import MAX_THREADS, Handler, check


def connect(
    address: str | Address,
    *,
    loop_factory: LoopFactory = new_event_loop,
    **options: Unpack[ClientOptions],
) -> Channel:
    """A channel to a listener; to close it closes its engine as well.

    Args:
        address: ``tcp://host:port`` or ``uds:///path``.
        loop_factory: as ``Engine`` has it.
        options: those of connecting and of the engine: see ``tofu_aio.ClientOptions``.

    Raises:
        TofuError, TypeError, ValueError: as ``tofu_aio.connect``.
    """
    limits, rest = split("connect", options, ConnectOptions)
    engine = Engine(loop_factory=loop_factory, **limits)
    try:
        channel = engine.__enter__().create_group().connect(address, **rest)
        channel._closed = engine.close
        return channel
    except BaseException:
        engine.close()
        raise


def reconnecting(
    address: str | Address,
    *others: str | Address,
    loop_factory: LoopFactory = new_event_loop,
    **options: Unpack[ReconnectingClientOptions],
) -> Generator[Channel, None, None]:
    """Channels to a listener, one after another, with an engine of their own.

    ``for channel in blocking.reconnecting(address): ...``; see ``ChannelGroup.reconnecting``.
    Leaving the loop closes the engine; so does ``close()`` of what is returned.

    Args:
        address: ``tcp://host:port`` or ``uds:///path``.
        others: more of them, in order of preference.
        loop_factory: as ``Engine`` has it.
        options: those of connecting again and of the engine: see
            ``tofu_aio.ReconnectingClientOptions``.

    Raises:
        InvalidAddress: one cannot be parsed.
        TypeError, ValueError: as ``Engine``. All else is raised by the first turn.
    """
    limits, rest = split("reconnecting", options, ReconnectOptions)
    addresses = [parse_address(each) for each in (address, *others)]
    engine = Engine(loop_factory=loop_factory, **limits)

    def run() -> Generator[Channel, None, None]:
        with engine, engine.create_group() as group:
            yield from group.reconnecting(*addresses, **rest)

    return run()


class Server(Closing):
    """A listener with an engine of its own, and what handles its channels. Made by ``serve``.

    It listens already; a context manager, whose end closes it.
    """

    def __init__(
        self,
        engine: Engine,
        listener: Listener,
        handler: Handler,
        decide: Handler | None,
        max_threads: int,
    ) -> None:
        self._engine = engine
        self._listener = listener
        self._handler = handler
        self._decide = decide
        self._max_threads = max_threads

    @property
    def address(self) -> Address:
        """Where it listens; the port is the one the system chose, if that was left to it."""
        return self._listener.address

    def serve_forever(self) -> None:
        """Handle channels, each in a thread, until ``close``, and wait for their handlers then.

        Ctrl-C ends it with ``KeyboardInterrupt``, and leaving the ``with`` all the rest.
        """
        self._listener.serve(self._handler, decide=self._decide, max_threads=self._max_threads)

    def close(self) -> None:
        """Close the listener and all channels, with Byes; from any thread, a handler's too.

        Handlers that wait learn it by ``ChannelClosed`` or ``ShutdownStarted``. Bounded.
        """
        self._engine.close()


def serve(
    handler: Callable[[Channel], object],
    address: str | Address,
    *,
    decide: Callable[[Channel], object] | None = None,
    max_threads: int = MAX_THREADS,
    loop_factory: LoopFactory = new_event_loop,
    **options: Unpack[ServerOptions],
) -> Server:
    """A server that listens already, and handles channels once it is told to.

    ``with blocking.serve(handler, address) as server: server.serve_forever()``

    Args:
        handler: a function that takes the channel, run in a thread for each; see
            ``Listener.serve``.
        address: ``tcp://host:port`` or ``uds:///path``.
        decide: accepts by returning, refuses by raising ``Rejected``; see ``Listener.serve``.
        max_threads: how many handlers there may be at once.
        loop_factory: as ``Engine`` has it.
        options: those of listening and of the engine: see ``tofu_aio.ServerOptions``.

    Raises:
        TofuError, TypeError, ValueError: as ``tofu_aio.serve`` and ``Listener.serve``.
    """
    check(handler, decide, max_threads)
    limits, rest = split("serve", options, ListenOptions)
    engine = Engine(loop_factory=loop_factory, **limits)
    try:
        listener = engine.__enter__().create_group().listen(address, **rest)
        return Server(engine, listener, handler, decide, max_threads)
    except BaseException:
        engine.close()
        raise
