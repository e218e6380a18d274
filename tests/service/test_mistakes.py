"""Mistakes of a programmer that are told as soon as they are made, with what to write instead."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

import tofu_aio as tofu
from tests.messaging.peers import until
from tests.service.serving import failure_of, served


class Database:
    """What is no payload."""


async def takes_one(_: Database) -> int:
    return 1


async def returns_one() -> Database:
    return Database()


async def neither() -> int:
    return 1


@pytest.mark.parametrize("handler", [takes_one, returns_one])
def test_a_type_that_cannot_be_encoded_is_named_when_its_handler_is_added(handler: object) -> None:
    service = tofu.Service()
    with pytest.raises(TypeError, match=r"with Database.*A resource must be added before"):
        service.handler("get")(handler)
    assert "get" not in service.handlers


def test_a_codec_of_the_program_s_own_may_know_any_type() -> None:
    class Own:
        content_type = "application/x-own"

        def encode(self, _: object, /) -> bytes:
            return b""

        def decode(self, _: bytes, as_type: type, /) -> object:
            return as_type()

    service = tofu.Service(codec=Own())  # type: ignore[arg-type]
    service.handler("get")(takes_one)
    assert "get" in service.handlers


def test_a_resource_s_type_is_no_payload() -> None:
    service = tofu.Service()

    @service.resource("service")
    @asynccontextmanager
    async def database() -> AsyncIterator[Database]:
        yield Database()

    service.handler("get")(takes_one)


def test_decorators_need_their_arguments() -> None:
    service = tofu.Service()
    with pytest.raises(TypeError, match=r'write @service.handler\("name"\)'):
        service.handler(neither)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r'write @service.resource\("service"\)'):
        service.resource(neither)  # type: ignore[arg-type]


def test_a_resource_is_a_context_manager() -> None:
    async def database() -> AsyncIterator[Database]:
        yield Database()

    with pytest.raises(TypeError, match="put @asynccontextmanager above it"):
        tofu.Service().resource("service")(database)


async def test_middleware_is_async() -> None:
    service = tofu.Service()
    service.handler("get")(neither)
    service.use(lambda call, following: following(call))  # returns an awaitable

    async with served(service) as there, there.client() as client:
        assert await client.call("get", result=int) == 1
    with pytest.raises(TypeError, match="give an async function"):
        service.use(5)  # type: ignore[type-var]


async def test_a_payload_that_cannot_be_encoded_is_shown() -> None:
    async with tofu.Client("tcp://127.0.0.1:1") as client:
        error = await failure_of(client.call("get", Database()))
    assert isinstance(error, TypeError)
    assert "Database object" in str(error)


def tried(client: tofu.Client) -> int:
    counts = client.counts.ended_calls.get(("news", "unavailable"))
    return counts.calls if counts is not None else 0


async def test_a_subscription_that_is_not_there_is_in_the_log_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    backoff = tofu.Backoff(0.001, 0.002)
    async with tofu.Client("tcp://127.0.0.1:1", backoff=backoff) as client:
        with caplog.at_level(logging.WARNING, "tofu_aio.reconnect"):
            events = client.subscribe("news", item=int)
            waiting = asyncio.ensure_future(anext(events))
            await until(lambda: tried(client) > 2)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        await events.aclose()
    (record,) = caplog.records
    assert "no subscription to 'news', trying until there is one" in record.getMessage()
