"""Send requests and print the responses: python echo_client.py [ADDRESS]."""

import sys

import tofu_aio as tofu


async def main(address: str = "tcp://127.0.0.1:7000") -> None:
    async with tofu.connect(address) as channel:
        for text in ("hello", "tofu"):
            response = await channel.request(text.encode(), timeout=5)
            print(response.body.decode())


tofu.run(main(*sys.argv[1:]))
