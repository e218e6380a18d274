"""The outcome of an operation, which is one byte of the header."""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Status(IntEnum):
    """SUCCESS, or the reason for a failure. The values are those on the wire."""

    SUCCESS = 0
    NOT_IMPLEMENTED_YET = 1
    WRONG_ADDRESS = 2
    NOT_ALLOWED = 3
    NULL_MESSAGE = 4
    INVALID_MESSAGE = 5
    INVALID_OP_CODE = 6
    INVALID_HEADERS_LEN = 7
    INVALID_BODY_LEN = 8
    INVALID_MORE_USAGE = 9
    INVALID_CHANNEL_NUMBER = 10
    INVALID_CHANNEL_GROUP = 11
    INVALID_MESSAGE_ID = 12
    INVALID_ADDRESS = 13
    UDS_PATH_NOT_FOUND = 14
    NOTIFICATION_DISABLED = 15
    NOTIFICATION_FAILED = 16
    PEER_DISCONNECTED = 17
    COMMUNICATION_FAILED = 18
    POOL_EMPTY = 19
    ALLOCATION_FAILED = 20
    RECEIVER_UPDATE = 21
    CHANNEL_CLOSED = 22
    SHUTDOWN_STARTED = 23
    CONNECT_FAILED = 24
    LISTEN_FAILED = 25
    ACCEPT_FAILED = 26
    SEND_FAILED = 27
    RECV_FAILED = 28
    SETSOCKOPT_FAILED = 29
    PROCESSING_FAILED = 30
    UNKNOWN_ERROR = 31


LEFT: Final = Status.PROCESSING_FAILED
"""The status of a request or response that its sender gives up before its end, or takes back."""

STATUSES: Final[tuple[Status, ...]] = tuple(
    Status(min(byte, Status.UNKNOWN_ERROR)) for byte in range(256)
)
"""The status for each value of the byte: UNKNOWN_ERROR beyond the last known one."""
