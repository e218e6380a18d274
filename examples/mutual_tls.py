"""Authenticate both sides with TLS: python mutual_tls.py. It needs trustme: pip install trustme."""

import asyncio
import ssl

import trustme

import tofu_aio as tofu


def server_context(ca: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("localhost").configure_cert(context)
    ca.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED  # require a certificate from the client, too
    return context


def client_context(ca: trustme.CA, name: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    ca.configure_trust(context)
    if name is not None:
        ca.issue_cert(name).configure_cert(context)
    return context


def names(channel: tofu.Channel) -> list[str]:
    certificate = channel.peer.certificate
    assert certificate is not None  # the context requires one
    return [name for _, name in certificate["subjectAltName"]]


async def decide(channel: tofu.Channel) -> None:
    if "alice@example.org" not in names(channel):
        raise tofu.Rejected(f"not on the list: {', '.join(names(channel))}")


async def greet(channel: tofu.Channel) -> None:
    async for request in channel:
        with request:
            await channel.reply(request, f"hello, {names(channel)[0]}".encode())


async def main() -> None:
    ca = trustme.CA()  # usually these are files: context.load_cert_chain, load_verify_locations
    async with tofu.Engine() as engine, engine.create_group() as group:
        listener = await group.listen("tcp://127.0.0.1:0", ssl=server_context(ca))
        serving = asyncio.create_task(listener.serve(greet, decide=decide))
        for name in ("alice@example.org", "eve@example.org", None):
            try:
                async with tofu.connect(
                    listener.address, ssl=client_context(ca, name), server_hostname="localhost"
                ) as channel:
                    with await channel.request(timeout=30) as response:
                        print(response.body.decode())
            except tofu.ConnectFailed as error:
                refused = isinstance(error.__cause__, tofu.NotAllowed)
                print(error.__cause__ if refused else "no handshake without a certificate")
        await listener.aclose()
        await serving


tofu.run(main())
