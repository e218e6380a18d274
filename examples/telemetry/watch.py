"""Print all readings until Ctrl-C: python watch.py."""

from contextlib import suppress

from interface import HUB, Reading

import tofu_aio as tofu


async def main() -> None:
    async with tofu.Client(HUB, heartbeat=1.0, backoff=tofu.Backoff(0.1, 1.0)) as hub:
        async for event in hub.subscribe("readings", item=Reading):
            if event.missed is None:
                print("the hub was restarted")
            elif event.missed:
                print(f"missed {event.missed}")
            print(event.number, event.value, flush=True)


with suppress(KeyboardInterrupt):
    tofu.run(main())
