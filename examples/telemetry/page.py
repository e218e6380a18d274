"""A page that shows the readings as they come: uvicorn --loop tofu_aio:new_event_loop page:app."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from fastapi import FastAPI, Header
from fastapi.responses import FileResponse, StreamingResponse
from interface import HUB, Reading

import tofu_aio as tofu

hub = tofu.Client(HUB, streams=1000, heartbeat=1.0, backoff=tofu.Backoff(0.1, 1.0))


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with hub:
        yield


app = FastAPI(lifespan=lifespan)


async def told(after: int | None, epoch: str) -> AsyncGenerator[str]:
    """Readings as server-sent events. A browser that comes back names the id of its last one."""
    yield "retry: 500\n\n"
    async for event in hub.subscribe("readings", item=Reading, after=after, epoch=epoch):
        if event.missed != 0:
            yield f"event: gap\ndata: {msgspec.json.encode(event.missed).decode()}\n\n"
        data = msgspec.json.encode(event.value).decode()
        yield f"id: {event.number} {event.epoch}\ndata: {data}\n\n"


@app.get("/events")
async def events(last_event_id: str = Header("")) -> StreamingResponse:
    number, _, epoch = last_event_id.partition(" ")
    after = int(number) if number.isdecimal() else None
    return StreamingResponse(told(after, epoch), media_type="text/event-stream")


@app.get("/")
async def page() -> FileResponse:
    return FileResponse(Path(__file__).with_name("page.html"))
