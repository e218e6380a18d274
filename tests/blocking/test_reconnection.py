"""Blocking programs that connect again."""

from __future__ import annotations

import socket
import threading

import pytest

import tofu_aio as tofu
from tests.blocking.conftest import PATIENCE, Beside
from tests.blocking.helpers import echo
from tofu_aio import State, blocking
from tofu_aio.reactor import LoopFactory


def test_reconnecting_brings_one_channel_after_another(
    group: blocking.ChannelGroup, loop_factory: LoopFactory
) -> None:
    with blocking.serve(echo, "tcp://127.0.0.1:0", loop_factory=loop_factory) as server:
        serving = Beside(server.serve_forever)
        backoff = tofu.Backoff(0.001, 0.001)
        for channels in (
            group.reconnecting(server.address, backoff=backoff),
            blocking.reconnecting(server.address, backoff=backoff, loop_factory=loop_factory),
        ):
            seen = []
            for channel in channels:
                assert channel.request(b"?", timeout=PATIENCE).body == b"?"
                seen.append(channel)
                if len(seen) == 3:
                    break
            channels.close()
            assert [channel.state for channel in seen] == [State.CLOSED] * 3
        server.close()
        serving.result()
    with pytest.raises(tofu.InvalidAddress):
        blocking.reconnecting("there")


def test_functions_for_headers_and_body_may_block(
    engine: blocking.Engine, group: blocking.ChannelGroup, listener: blocking.Listener
) -> None:
    """They run outside the event loop's thread, unless they are async."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        nobody = f"tcp://127.0.0.1:{server.getsockname()[1]}"
    made = iter(range(100))

    def headers() -> dict[str, str]:
        engine.create_group().close()  # not allowed in the engine's thread
        return {"Number": str(next(made))}

    async def body() -> bytes:
        return threading.current_thread().name.encode()

    accepting = Beside(lambda: listener.accept(PATIENCE))
    channels = group.reconnecting(nobody, listener.address, headers=headers, body=body)
    with next(channels), accepting.result() as accepted:
        assert accepted.hello.headers["Number"] == "1", "0 was for the first address"
        assert accepted.hello.body == b"tofu_aio"
    channels.close()


def test_an_error_in_a_function_for_the_body_is_raised(
    group: blocking.ChannelGroup, listener: blocking.Listener
) -> None:
    def fail() -> bytes:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        next(group.reconnecting(listener.address, body=fail))
