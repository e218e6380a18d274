"""The simulated loop."""

from __future__ import annotations

import asyncio

import pytest

import tofu_aio as tofu
from tests.messaging.certificates import client_context, server_context
from tests.simulated.services import echo
from tofu_aio import testing


def test_threads_are_refused() -> None:
    async def main() -> None:
        await asyncio.to_thread(print)

    with pytest.raises(RuntimeError, match="a simulated world has no threads"):
        testing.run(main())


def test_tls_runs_over_it() -> None:
    async def main() -> bytes:
        async with tofu.Engine() as engine, engine.create_group() as group:
            listener = await group.listen("tcp://127.0.0.1:0", ssl=server_context())
            serving = asyncio.create_task(listener.serve(echo))
            async with await group.connect(
                listener.address, ssl=client_context(), server_hostname="localhost"
            ) as channel:
                body = (await channel.request(b"secret")).body
            await listener.aclose()
            await serving
        return body

    assert testing.run(main()) == b"secret"
