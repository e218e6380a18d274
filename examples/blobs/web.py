"""Blobs over HTTP, in front of the store: uvicorn --loop tofu_aio:new_event_loop web:app."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from interface import STORE, Blob
from starlette.requests import ClientDisconnect

import tofu_aio as tofu

store = tofu.Client(STORE, streams=200, heartbeat=1.0, timeout=2.0, backoff=tofu.Backoff(0.1, 1.0))


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with store:
        yield


app = FastAPI(lifespan=lifespan)


@app.put("/blobs/{name}")
async def put(name: str, request: Request) -> Blob:
    headers = {"blob": quote(name, safe="")}  # which may be any text
    return await store.upload("put", request.stream(), result=Blob, headers=headers)


@app.get("/blobs/{name}")
async def get(name: str) -> StreamingResponse:
    size = await store.call("size", name, result=int, timeout=5, idempotent=True)
    parts = store.stream("get", name, item=bytes)
    return StreamingResponse(parts, headers={"Content-Length": str(size)})


@app.get("/health")
async def health() -> dict[str, str]:
    return await store.call("tofu.health", result=dict[str, str], timeout=2)


@app.exception_handler(tofu.ServiceError)
async def refused(_: Request, error: tofu.ServiceError) -> JSONResponse:
    status = {"not_found": 404, "invalid_argument": 400}.get(error.code, 500)
    return JSONResponse({"detail": error.text}, status)


@app.exception_handler(TimeoutError)
@app.exception_handler(tofu.TofuError)
async def away(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": f"the store does not answer: {error}"}, 503)


@app.exception_handler(ClientDisconnect)
async def gone(_: Request, __: ClientDisconnect) -> JSONResponse:
    return JSONResponse({"detail": "the upload was broken off"}, 400)  # which nobody reads
