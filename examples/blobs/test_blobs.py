"""The store and the web application without processes: python -m pytest."""

import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import store
import web
from interface import Blob

import tofu_aio as tofu
from tofu_aio import testing

DATA = b"0123456789" * 100_000
STORED = {"name": "blob", "size": len(DATA), "sha256": hashlib.sha256(DATA).hexdigest()}


@pytest.fixture(autouse=True)
def new_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test begins with an empty store, and leaves no part of a blob in it."""
    monkeypatch.setattr(store, "folder", tmp_path)
    yield
    assert not list(tmp_path.glob("*.part"))


def browser() -> httpx.AsyncClient:
    """A client of the web application, in this process."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(web.app), base_url="http://web")


async def test_an_upload_that_breaks_off_leaves_nothing(tofu_client: testing.ClientFixture) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield DATA
        raise ConnectionError("the client is gone")

    client = await tofu_client(store.service)
    with pytest.raises(ConnectionError, match="the client is gone"):
        await client.upload("put", parts(), result=Blob, headers={"blob": "half"})
    with pytest.raises(tofu.ServiceError, match="there is no blob 'half'"):
        await client.call("size", "half")


async def test_a_blob_comes_back_as_it_was(
    tofu_client: testing.ClientFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "store", await tofu_client(store.service))
    async with browser() as http:
        stored = await http.put("/blobs/blob", content=DATA)
        assert (stored.status_code, stored.json()) == (200, STORED)
        assert (await http.get("/blobs/blob")).content == DATA
        assert (await http.get("/blobs/another")).status_code == 404
        assert (await http.put("/blobs/any%0Atext", content=DATA)).json()["name"] == "any\ntext"
        assert (await http.put("/blobs/" + 300 * "x", content=DATA)).status_code == 400


async def test_without_a_store_requests_fail(
    tofu_client: testing.ClientFixture, tofu_tcp_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "store", await tofu_client(tofu_tcp_address))
    async with browser() as http:
        assert (await http.get("/health")).status_code == 503
        assert (await http.put("/blobs/blob", content=DATA)).status_code == 503
