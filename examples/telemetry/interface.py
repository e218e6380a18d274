"""What sources, hub and watchers say to each other, and where."""

import os

import msgspec

HUB = os.environ.get("HUB", "tcp://127.0.0.1:7200")


class Reading(msgspec.Struct):
    """What a sensor has measured."""

    sensor: str
    count: int
    value: float
