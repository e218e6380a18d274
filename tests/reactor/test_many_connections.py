"""More connections than `select` takes on Windows, all open at once, over real sockets."""

from __future__ import annotations

import asyncio
import sys

import pytest

from tofu_aio.reactor import Loop, ReactorSelector

CONNECTIONS = 600
# Windows cuts longer backlogs and refuses at once what does not fit.
AT_A_TIME = 50


@pytest.fixture(autouse=True)
def enough_descriptors():
    """Both ends of each connection are ours; Windows has no limit worth naming."""
    if sys.platform == "win32":
        yield
        return
    import resource

    old = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * CONNECTIONS + 200
    soft, hard = old
    if soft != resource.RLIM_INFINITY and soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            pytest.skip(f"this system allows {hard} descriptors, {wanted} are needed")
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, old)


@pytest.mark.timeout(120)
def test_an_echo_of_600_simultaneous_connections(make_poller):
    served = 0

    async def echo(reader, writer):
        nonlocal served
        served += 1
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def ask(reader, writer, line):
        writer.write(line)
        assert await reader.readline() == line

    async def hang_up(reader, writer):
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()

    async def main():
        async with await asyncio.start_server(echo, "127.0.0.1") as server:
            address = server.sockets[0].getsockname()
            streams = []
            while len(streams) < CONNECTIONS:
                streams += await asyncio.gather(
                    *(asyncio.open_connection(*address) for _ in range(AT_A_TIME))
                )
            for turn in range(3):
                await asyncio.gather(
                    *(
                        ask(*stream, b"%d of turn %d\n" % (number, turn))
                        for number, stream in enumerate(streams)
                    )
                )
            assert served == CONNECTIONS
            statistics = asyncio.get_running_loop().statistics()
            assert statistics.selector.descriptors > 2 * CONNECTIONS
            await asyncio.gather(*(hang_up(*stream) for stream in streams))

    with asyncio.Runner(loop_factory=lambda: Loop(ReactorSelector(make_poller))) as runner:
        runner.run(main())
