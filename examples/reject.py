"""Look at each Hello before accepting the client: python reject.py."""

import asyncio
import hmac

import tofu_aio as tofu

TOKENS = {"alice": "71c480df93d6ae2f"}  # random; passwords that people choose need a slow hash


async def decide(channel: tofu.Channel) -> None:
    """Return to accept the client; raise Rejected to tell it why not."""
    hello = channel.hello.headers
    if "User" not in hello:
        raise tofu.Rejected("the Hello has no User header", tofu.Status.INVALID_MESSAGE)
    expected = TOKENS.get(hello["User"], "")
    given = hello.get("Token", "").encode(errors="surrogateescape")
    # The same time and the same answer for a wrong token and for an unknown user.
    if not hmac.compare_digest(given, expected.encode()) or not expected:
        raise tofu.Rejected("unknown user, or wrong token")


async def greet(channel: tofu.Channel) -> None:
    name = channel.hello.headers["User"]
    async for request in channel:
        with request:
            await channel.reply(request, f"hello, {name}".encode())


async def visit(address: tofu.Address, headers: dict[str, str]) -> None:
    try:
        async with tofu.connect(address, headers=headers) as channel:
            with await channel.request(timeout=30) as response:
                print(response.body.decode())
    except tofu.ConnectFailed as error:
        reason = error.__cause__
        assert isinstance(reason, tofu.TofuError)
        print(f"{reason.status.name.lower()}: {reason}")


async def main() -> None:
    async with tofu.Engine() as engine, engine.create_group() as group:
        listener = await group.listen("tcp://127.0.0.1:0")
        serving = asyncio.create_task(listener.serve(greet, decide=decide))
        await visit(listener.address, {"User": "alice", "Token": "71c480df93d6ae2f"})
        await visit(listener.address, {"User": "alice", "Token": "1234"})
        await visit(listener.address, {})
        await listener.aclose()
        await serving


tofu.run(main())
