"""picows, WebSockets in Cython: callbacks, and a view of the payload where nothing keeps it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import picows

from tests.benchmarks.load import Load, Meter


class Server(picows.WSListener):
    """Sends what it gets."""

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type == picows.WSMsgType.CLOSE:
            transport.disconnect()
        else:
            transport.send(frame.msg_type, frame.get_payload_as_memoryview())


class Client(picows.WSListener):
    """Sends a message for each that has come back."""

    def __init__(self, load: Load, meter: Meter) -> None:
        self.meter, self.window = meter, load.window
        self.body = bytes(load.size)

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self.left = self.meter.lap()
        for _ in range(self.window):
            transport.send(picows.WSMsgType.BINARY, self.body)

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        self.left -= 1
        if not self.left:
            self.left = self.meter.lap()
            if not self.left:
                transport.disconnect(graceful=False)
                return
        # What came with the last message in the same chunk is not counted.
        if self.left > 0:
            transport.send(picows.WSMsgType.BINARY, self.body)


@asynccontextmanager
async def serve(load: Load) -> AsyncIterator[int]:
    """Echo messages."""
    server = await picows.ws_create_server(lambda _: Server(), "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def drive(load: Load, port: int, meter: Meter) -> None:
    """Keep a window under way."""
    transport, _ = await picows.ws_connect(lambda: Client(load, meter), f"ws://127.0.0.1:{port}")
    await transport.wait_disconnected()
