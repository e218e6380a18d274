"""The simple cases: one channel, or one service, with an engine of its own."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack
from typing import Unpack

from ..messaging.backoff import Backoff
from ..messaging.limits import POOL_MESSAGES
from ..messaging.reconnecting import ConnectOptions
from ..protocol.address import Address, parse_address
from ..protocol.errors import TofuError
from ..reactor import LoopFactory, new_event_loop
from .channel import Channel
from .closing import Closing
from .engine import Engine
from .listener import Listener, ListenOptions
from .serving import MAX_THREADS, Handler, check


def connect(
    address: str | Address,
    *,
    pool_messages: int = POOL_MESSAGES,
    loop_factory: LoopFactory = new_event_loop,
    **options: Unpack[ConnectOptions],
) -> Channel:
    """A channel to a listener; to close it closes its engine as well.

    Args:
        address: ``tcp://host:port`` or ``uds:///path``.
        pool_messages: how many received messages may be alive at once.
        loop_factory: as ``Engine`` has it.
        options: headers, body, ssl, timeout and so on: ``tofu_aio.ConnectOptions``.

    Raises:
        As ``tofu_aio.ChannelGroup.connect``.
    """
    with ExitStack() as stack:
        engine = stack.enter_context(Engine(pool_messages, loop_factory=loop_factory))
        channel = engine.create_group().connect(address, **options)
        channel._closed = stack.pop_all().close
    return channel


def reconnecting(
    address: str | Address,
    *,
    backoff: Backoff | None = None,
    on_failure: Callable[[TofuError], object] | None = None,
    pool_messages: int = POOL_MESSAGES,
    loop_factory: LoopFactory = new_event_loop,
    **options: Unpack[ConnectOptions],
) -> Generator[Channel, None, None]:
    """Channels to a listener, one after another, with an engine of their own.

    ``for channel in blocking.reconnecting(address): ...``; see ``ChannelGroup.reconnecting``.
    Leaving the loop closes the engine; so does ``close()`` of what is returned.

    Raises:
        InvalidAddress: it cannot be parsed. All else is raised by the first turn.
    """
    where = parse_address(address)
    engine = Engine(pool_messages, loop_factory=loop_factory)

    def run() -> Generator[Channel, None, None]:
        with engine, engine.create_group() as group:
            yield from group.reconnecting(where, backoff=backoff, on_failure=on_failure, **options)

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
    pool_messages: int = POOL_MESSAGES,
    loop_factory: LoopFactory = new_event_loop,
    **options: Unpack[ListenOptions],
) -> Server:
    """A server that listens already, and handles channels once it is told to.

    ``with blocking.serve(handler, address) as server: server.serve_forever()``

    Args:
        handler: a function that takes the channel, run in a thread for each; see
            ``Listener.serve``.
        address: ``tcp://host:port`` or ``uds:///path``.
        decide: accepts by returning, refuses by raising a ``TofuError``; see ``Listener.serve``.
        max_threads: how many handlers there may be at once.
        pool_messages: how many received messages may be alive at once, over all channels.
        loop_factory: as ``Engine`` has it.
        options: ssl, heartbeat, max_channels and so on: ``ListenOptions``.

    Raises:
        As ``tofu_aio.ChannelGroup.listen``, and as ``Listener.serve``.
    """
    check(handler, decide, max_threads)
    with ExitStack() as stack:
        engine = stack.enter_context(Engine(pool_messages, loop_factory=loop_factory))
        listener = engine.create_group().listen(address, **options)
        stack.pop_all()
    return Server(engine, listener, handler, decide, max_threads)
