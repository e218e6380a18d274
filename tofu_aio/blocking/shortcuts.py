"""Shortcuts for one channel or one service, with an engine of its own."""

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
from .serving import MAX_THREADS, Handler, check_options


def connect(
    address: str | Address,
    *,
    loop_factory: LoopFactory = new_event_loop,
    **options: Unpack[ClientOptions],
) -> Channel:
    """Connect to a listener. Closing the channel closes its engine, too.

    Args:
        address: ``tcp://host:port`` or ``uds:///path``.
        loop_factory: see ``Engine``.
        options: options of connecting and of the engine; see ``tofu_aio.ClientOptions``.

    Raises:
        TofuError, TypeError, ValueError: see ``tofu_aio.connect``.
    """
    limits, rest = split("connect", options, ConnectOptions)
    engine = Engine(loop_factory=loop_factory, **limits)
    try:
        channel = engine.__enter__().create_group().connect(address, **rest)
        channel._on_closed = engine.close
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
    """Connect again whenever a channel ends, with an engine for all of these channels.

    ``for channel in blocking.reconnecting(address): ...``; see ``ChannelGroup.reconnecting``.
    Leaving the loop closes the engine, and so does ``close()`` of the generator.

    Args:
        address: ``tcp://host:port`` or ``uds:///path``.
        others: more addresses, in order of preference.
        loop_factory: see ``Engine``.
        options: options of reconnecting and of the engine; see
            ``tofu_aio.ReconnectingClientOptions``.

    Raises:
        InvalidAddress: an address cannot be parsed.
        TypeError, ValueError: see ``Engine``. The first iteration raises any other error.
    """
    limits, rest = split("reconnecting", options, ReconnectOptions)
    addresses = [parse_address(each) for each in (address, *others)]
    engine = Engine(loop_factory=loop_factory, **limits)

    def run() -> Generator[Channel, None, None]:
        with engine, engine.create_group() as group:
            yield from group.reconnecting(*addresses, **rest)

    return run()


class Server(Closing):
    """A listener with an engine of its own and a handler for its channels. Created by ``serve``.

    It already listens. It is a context manager that closes the server.
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
        """The address it listens on. If the port was given as 0, this has the one chosen."""
        return self._listener.address

    def serve_forever(self) -> None:
        """Handle each channel in a thread, until ``close``; then wait for the handlers.

        Ctrl-C raises ``KeyboardInterrupt`` from this call; leaving the ``with`` block then closes
        the channels.
        """
        self._listener.serve(self._handler, decide=self._decide, max_threads=self._max_threads)

    def close(self) -> None:
        """Close the listener, and every channel with a Bye.

        Takes a bounded time. Any thread may call this, including a handler. Handlers that wait
        for a channel get ``ChannelClosed`` or ``ShutdownStarted``.
        """
        self._engine.close()


def serve(
    handler: Callable[[Channel], object],
    address: str | Address | None = None,
    *,
    decide: Callable[[Channel], object] | None = None,
    max_threads: int = MAX_THREADS,
    loop_factory: LoopFactory = new_event_loop,
    **options: Unpack[ServerOptions],
) -> Server:
    """Listen, and return a server whose ``serve_forever`` handles the channels.

    ``with blocking.serve(handler, address) as server: server.serve_forever()``

    Args:
        handler: a function that takes the channel; it runs in a thread for each channel. See
            ``Listener.serve``.
        address: ``tcp://host:port``, ``uds:///path`` or ``fd://3``. None with ``sock=``.
        decide: accepts a channel by returning, rejects it by raising ``Rejected``. See
            ``Listener.serve``.
        max_threads: how many handlers may run at the same time.
        loop_factory: see ``Engine``.
        options: options of listening and of the engine; see ``tofu_aio.ServerOptions``.

    Raises:
        TofuError, TypeError, ValueError: see ``tofu_aio.serve`` and ``Listener.serve``.
    """
    check_options(handler, decide, max_threads)
    limits, rest = split("serve", options, ListenOptions)
    engine = Engine(loop_factory=loop_factory, **limits)
    try:
        listener = engine.__enter__().create_group().listen(address, **rest)
        return Server(engine, listener, handler, decide, max_threads)
    except BaseException:
        engine.close()
        raise
