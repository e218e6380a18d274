"""Keep blobs in a folder, for programs on this machine: python store.py FOLDER."""

import hashlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote, unquote
from uuid import uuid4

import anyio
from interface import STORE, Blob

import tofu_aio as tofu

service = tofu.Service()
folder = Path()  # where the blobs are


def path_of(name: str) -> anyio.Path:
    """The file of a blob. No name leads out of the folder."""
    file = quote(name, safe="") + ".blob"
    if len(file) > 255:  # what file systems allow
        raise tofu.ServiceError("invalid_argument", "the name is too long")
    return anyio.Path(folder, file)


def new_part() -> anyio.AsyncFile[bytes]:
    """A new file. If a thread opened it, it might do so after the upload was cancelled."""
    return anyio.wrap_file((folder / f"{uuid4()}.part").open("xb"))


@service.handler("put")
async def put(parts: AsyncIterator[bytes], call: tofu.Call) -> Blob:
    """Store a blob, which is there once it is complete. Nothing is left of one that broke off."""
    name = unquote(call.headers["blob"])
    complete = path_of(name)
    digest, size = hashlib.sha256(), 0
    file = new_part()
    partial = anyio.Path(file.wrapped.name)
    try:
        async with file:
            async for part in parts:
                digest.update(part)
                size += await file.write(part)
        await partial.replace(complete)
    finally:
        await partial.unlink(missing_ok=True)
    return Blob(name, size, digest.hexdigest())


@service.handler("size")
async def size(name: str) -> int:
    try:
        return (await path_of(name).stat()).st_size
    except FileNotFoundError:
        raise tofu.ServiceError("not_found", f"there is no blob {name!r}") from None


@service.handler("get")
async def get(name: str) -> AsyncIterator[bytes]:
    async with await path_of(name).open("rb") as file:
        while part := await file.read(65_535):
            yield part


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob("*.part"):  # of a store that was killed
        leftover.unlink()
    tofu.run(service.serve(STORE, mode=0o600, heartbeat=1.0))
