"""The loop."""

from __future__ import annotations

import asyncio

from tofu_aio.reactor import Loop, ReactorSelector


def test_a_loop_is_asyncio_s_own_kind_over_the_reactor_s_selector():
    selector = ReactorSelector()
    loop = Loop(selector)
    assert isinstance(loop, asyncio.SelectorEventLoop)
    assert loop._selector is selector
    loop.close()
    assert selector.get_map() is None


def test_streams_run_on_it():
    async def echo(reader, writer):
        writer.write(await reader.readline())
        writer.close()
        await writer.wait_closed()

    async def main():
        async with await asyncio.start_server(echo, "127.0.0.1") as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello\n")
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            return answer

    with asyncio.Runner(loop_factory=Loop) as runner:
        assert runner.run(main()) == b"hello\n"
