"""A channel, or a service, with an engine of its own."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import tofu_aio as tofu
from tests.blocking.conftest import Beside
from tests.blocking.helpers import echo, echo_all
from tofu_aio import blocking
from tofu_aio.messaging.limits import Limits
from tofu_aio.reactor import LoopFactory


def engines() -> int:
    """How many engines have a thread."""
    return sum(thread.name == "tofu_aio" for thread in threading.enumerate())


def test_connect_brings_its_own_engine(
    listener: blocking.Listener, loop_factory: LoopFactory
) -> None:
    serving = Beside(lambda: echo_all(listener))
    before = engines()
    for how in ("with", "close", "abort"):
        channel = blocking.connect(listener.address, loop_factory=loop_factory, body=b"hi")
        assert engines() == before + 1
        assert channel.request(b"?").body == b"?"
        if how == "with":
            with channel:
                pass
        else:
            getattr(channel, how)()
        assert engines() == before
    with pytest.raises(tofu.ConnectFailed):
        blocking.connect("tcp://127.0.0.1:1", loop_factory=loop_factory)
    assert engines() == before
    listener.close()
    serving.result()


def test_each_shortcut_takes_the_limits_of_an_engine(loop_factory: LoopFactory) -> None:
    limits: Any = {"pool_messages": 3, "channel_share": 0.5, "write_high_water": 1000}

    def limits_of(engine: blocking.Engine) -> Limits:
        return engine._engine._gate.limits

    server = blocking.serve(echo, "tcp://127.0.0.1:0", loop_factory=loop_factory, **limits)
    with server:
        serving = Beside(server.serve_forever)
        assert limits_of(server._engine) == Limits(**limits)
        with blocking.connect(server.address, loop_factory=loop_factory, **limits) as channel:
            assert channel._channel._connection.gate.limits == Limits(**limits)
        channels = blocking.reconnecting(server.address, loop_factory=loop_factory, **limits)
        with next(channels) as channel:
            assert channel._channel._connection.gate.limits == Limits(**limits)
        channels.close()
        server.close()
        serving.result()
