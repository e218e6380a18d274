"""Programs of others, unchanged, on our loop: each serves and fetches."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import anyio
import pytest

import tofu_aio
from tofu_aio.reactor import Loop

# Their own tests are theirs; a package that has no build for this Python yet is no fault of ours.
needs = {
    name: pytest.mark.skipif(find_spec(name) is None, reason=f"no {name} for this Python yet")
    for name in ("aiohttp", "uvicorn", "websockets")
}

LARGE = bytes(range(256)) * 4096
"""A megabyte: more than a socket's buffers hold, so that writers block and readers pause."""


def run(main):
    """Run a coroutine function on our loop, as an application that adopts it would."""
    with asyncio.Runner(loop_factory=tofu_aio.new_event_loop) as runner:
        assert type(runner.get_loop()) is Loop
        return runner.run(main())


@needs["aiohttp"]
def test_aiohttp_serves_and_fetches():
    from aiohttp import ClientSession, WSMsgType, web

    async def echo(request):
        return web.Response(body=await request.read())

    async def talk(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data.upper())
        return socket

    async def main():
        app = web.Application(client_max_size=2 * len(LARGE))
        app.add_routes([web.post("/echo", echo), web.get("/talk", talk)])
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            host, port = runner.addresses[0]
            async with ClientSession(f"http://{host}:{port}") as session:

                async def fetch():
                    async with session.post("/echo", data=LARGE) as response:
                        assert response.status == 200
                        return await response.read()

                assert await asyncio.gather(*(fetch() for _ in range(8))) == [LARGE] * 8
                async with session.ws_connect("/talk") as socket:
                    await socket.send_str("hello")
                    message = await socket.receive()
                    assert (message.type, message.data) == (WSMsgType.TEXT, "HELLO")
        finally:
            await runner.cleanup()

    run(main)


@needs["websockets"]
def test_websockets_serve_and_connect():
    from websockets.asyncio.client import connect
    from websockets.asyncio.server import serve

    async def echo(connection):
        async for message in connection:
            await connection.send(message)

    async def main():
        async with serve(echo, "127.0.0.1", 0, max_size=2 * len(LARGE)) as server:
            host, port = server.sockets[0].getsockname()

            async def talk(number):
                async with connect(f"ws://{host}:{port}", max_size=2 * len(LARGE)) as connection:
                    for message in (str(number), LARGE):
                        await connection.send(message)
                        assert await connection.recv() == message

            await asyncio.gather(*(talk(number) for number in range(8)))

    run(main)


async def application(scope, receive, send):
    """An ASGI application that answers with the kind of loop it runs on."""
    assert scope["type"] == "http"
    body = b""
    more = True
    while more:
        event = await receive()
        body += event["body"]
        more = event["more_body"]
    loop = asyncio.get_running_loop()
    answer = json.dumps([f"{type(loop).__module__}.{type(loop).__name__}", len(body)]).encode()
    headers = [(b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


def post(url: str) -> list[object]:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(url, data=LARGE, timeout=30) as response:
        answer: list[object] = json.load(response)
        return answer


ANSWER = ["tofu_aio.reactor.loop.Loop", len(LARGE)]


@needs["uvicorn"]
def test_uvicorn_serves():
    import uvicorn

    class Server(uvicorn.Server):
        """One that says when it is up."""

        def __init__(self, config):
            super().__init__(config)
            self.up = asyncio.Event()

        async def startup(self, sockets=None):
            await super().startup(sockets)
            self.up.set()

    async def main():
        server = Server(uvicorn.Config(application, port=0, lifespan="off", log_level="warning"))
        serving = asyncio.create_task(server.serve())
        await server.up.wait()
        host, port = server.servers[0].sockets[0].getsockname()
        try:
            url = f"http://{host}:{port}/"
            return await asyncio.gather(*(asyncio.to_thread(post, url) for _ in range(4)))
        finally:
            server.should_exit = True
            await serving

    assert run(main) == [ANSWER] * 4


@needs["uvicorn"]
def test_uvicorn_takes_our_loop_by_name():
    here = Path(__file__)
    command = [
        *(sys.executable, "-m", "uvicorn", f"{here.stem}:application", "--app-dir", here.parent),
        *("--loop", "tofu_aio:new_event_loop", "--port", "0", "--lifespan", "off"),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            said = []
            for line in server.stderr:
                said.append(line)
                if running := re.search(r"running on (http://\S+)", line):
                    break
            else:
                pytest.fail("uvicorn did not start:\n" + "".join(said))
            assert post(running[1]) == ANSWER
        finally:
            server.terminate()
            server.communicate(timeout=30)


def test_anyio_takes_our_loop_as_a_backend_option():
    async def main():
        loop = asyncio.get_running_loop()
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(anyio.abc.SocketAttribute.local_port)

        async def echo(stream):
            async with stream:
                async for data in stream:
                    await stream.send(data)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, echo)
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                tasks.start_soon(stream.send, LARGE)
                answer = b""
                while len(answer) < len(LARGE):
                    answer += await stream.receive()
            assert answer == LARGE
            tasks.cancel_scope.cancel()
        await listener.aclose()
        return type(loop)

    options = {"loop_factory": tofu_aio.new_event_loop}
    assert anyio.run(main, backend="asyncio", backend_options=options) is Loop


def test_a_runner_takes_our_loop():
    async def main():
        return type(asyncio.get_running_loop())

    with asyncio.Runner(loop_factory=tofu_aio.new_event_loop) as runner:
        assert runner.run(main()) is Loop
        assert runner.run(main()) is Loop


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio.run takes a factory since 3.12")
def test_asyncio_run_takes_our_loop():
    async def main():
        return type(asyncio.get_running_loop())

    assert asyncio.run(main(), loop_factory=tofu_aio.new_event_loop) is Loop
