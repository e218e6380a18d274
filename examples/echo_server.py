"""Answer every request with its own body: python echo_server.py [ADDRESS]."""

import sys

import tofu_aio as tofu


async def echo(channel: tofu.Channel) -> None:
    async for request in channel:
        with request:  # its room in the engine's memory is free again at the end
            await channel.reply(request, request.body)


async def main(address: str = "tcp://127.0.0.1:7000") -> None:
    async with tofu.Engine() as engine, engine.create_group() as group:
        listener = await group.listen(address)
        print(f"listening on {listener.address}", flush=True)
        await listener.serve(echo)


try:
    tofu.run(main(*sys.argv[1:]))
except KeyboardInterrupt:
    print("stopped")
