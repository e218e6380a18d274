"""What the web application and the store say to each other, and where."""

import os
from dataclasses import dataclass

STORE = os.environ.get("STORE", "uds:///tmp/blobs.sock")


@dataclass
class Blob:
    """What is told of a blob that was stored."""

    name: str
    size: int
    sha256: str
