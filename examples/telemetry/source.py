"""Report readings: python source.py SENSOR COUNT PER_SECOND."""

import asyncio
import math
import sys

from interface import HUB, Reading

import tofu_aio as tofu


async def main(sensor: str, count: str = "1000", per_second: str = "10") -> None:
    lost = 0
    async with tofu.Client(HUB, heartbeat=1.0, backoff=tofu.Backoff(0.1, 1.0)) as hub:
        for number in range(int(count)):
            try:
                await hub.call("report", Reading(sensor, number, math.sin(number / 10)), timeout=2)
            except (tofu.TofuError, TimeoutError) as error:
                lost += 1
                print(f"reading {number} may be lost: {error}", flush=True)
            await asyncio.sleep(1 / float(per_second))
    print(f"reported {int(count) - lost} readings", flush=True)


tofu.run(main(*sys.argv[1:]))
