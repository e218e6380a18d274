"""Pass the readings of all sources on to all who watch: python hub.py."""

from interface import HUB, Reading

import tofu_aio as tofu

service = tofu.Service()
readings = tofu.Topic(capacity=1000)  # who falls behind by more is told how many were missed
service.topic("readings", readings)


@service.handler("report")
async def report(reading: Reading) -> int:
    return readings.publish(reading)


@service.handler("status")
async def status() -> tofu.TopicStatistics:
    return readings.statistics()


if __name__ == "__main__":
    tofu.run(service.serve(HUB, heartbeat=1.0, drain=5))
