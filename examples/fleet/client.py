"""Be greeted COUNT times, by any instance at the addresses in GREETER: python client.py COUNT."""

import os
import sys

import tofu_aio as tofu

ADDRESSES = os.environ.get("GREETER", "tcp://127.0.0.1:7000").split()


async def main(count: str = "10") -> None:
    async with tofu.Client(*ADDRESSES, call_timeout=10) as client:
        for number in range(int(count)):
            # Greeting twice does no harm, so a call whose instance is lost is tried again.
            greeting = await client.call("greet", f"no. {number}", result=str, idempotent=True)
            print(greeting, flush=True)


tofu.run(main(*sys.argv[1:]))
