"""What clients, dispatcher and workers say to each other, and where they are."""

import os

import msgspec

DISPATCHER = os.environ.get("DISPATCHER", "tcp://127.0.0.1:7100")
WORKERS = os.environ.get("WORKERS", "tcp://127.0.0.1:7101 tcp://127.0.0.1:7102").split()


class Job(msgspec.Struct):
    """A number to square, which takes some seconds, and how far that is."""

    number: int
    seconds: float = 0.0
    worker: str = ""
    percent: int = 0
    lost: int = 0  # the workers that were lost while they did it
    result: int | None = None
    error: str = ""
