"""The blocking exchange."""

from __future__ import annotations

import pytest

import tofu_aio as tofu
from tests.blocking.conftest import PATIENCE, Beside
from tests.blocking.helpers import Pair


def test_an_exchange_has_parts_both_ways(pair: Pair) -> None:
    client, server = pair

    def answer() -> None:
        with server.stream(server.receive(), headers={"c": "d"}) as exchange:
            for part in exchange:
                exchange.send(part.body.upper())
            exchange.send_eof()

    answering = Beside(answer)
    with client.stream(headers={"a": "b"}) as exchange:
        assert exchange.asks
        exchange.send(b"one", timeout=PATIENCE)
        exchange.finish(b"two")
        assert [part.body for part in exchange] == [b"ONE", b"TWO", b""]
        with pytest.raises(tofu.ChannelClosed):
            exchange.send(b"three")
        assert str(exchange.message_id) in repr(exchange)
    answering.result()
    with client.stream() as exchange:
        exchange.send(b"cut short")
        with pytest.raises(TimeoutError):
            exchange.receive(0)
        first = server.receive(PATIENCE)  # else it is taken back before anybody has seen it
    with (
        server.stream(first) as cut,
        pytest.raises(tofu.ExchangeFailed),
    ):
        list(cut)
