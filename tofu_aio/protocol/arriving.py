"""A message of which the header is here, and of the rest a part."""

from __future__ import annotations

from io import BytesIO

from .binary_header import HEADER_SIZE
from .message import Message
from .text_headers import EMPTY_HEADERS, TextHeaders


class Arriving:
    """Collects the rest of a message, each byte copied once.

    A ``BytesIO`` does that: what was written to it becomes ``bytes`` without another copy, and a
    peer that sends byte by byte costs no object for each.

    Args:
        message: with its permit and what the header says.
        headers_len, body_len: of the rest.

    Attributes:
        message: as given.
        missing: how many bytes are still to come.
        nbytes: how many are here, with the header.
    """

    __slots__ = ("_body", "_headers", "_headers_len", "message", "missing", "nbytes")

    def __init__(self, message: Message, headers_len: int, body_len: int) -> None:
        self.message = message
        self._headers_len = headers_len
        self._headers = BytesIO()
        self._body = BytesIO()
        self.missing = headers_len + body_len
        self.nbytes = HEADER_SIZE

    def take(self, data: memoryview) -> int:
        """Take what is its own, and return how many bytes that is."""
        data = data[: self.missing]
        self.missing -= len(data)
        self.nbytes += len(data)
        split = max(0, self._headers_len - self._headers.tell())
        self._headers.write(data[:split])
        self._body.write(data[split:])
        return len(data)

    def content(self) -> tuple[TextHeaders, bytes]:
        """Headers and body, once nothing is missing.

        Raises:
            InvalidMessage: the text headers break a rule.
        """
        text = self._headers.getvalue()
        return TextHeaders.decode(text) if text else EMPTY_HEADERS, self._body.getvalue()
