"""A message whose header has arrived, and the rest of it only in part."""

from __future__ import annotations

from io import BytesIO

from .binary_header import HEADER_SIZE
from .message import Message
from .text_headers import EMPTY_HEADERS, TextHeaders


class Arriving:
    """Collects the rest of a message and copies each byte once.

    A ``BytesIO`` makes that possible: what was written to it becomes ``bytes`` without another
    copy, and a peer that sends byte by byte costs no object for each byte.

    Args:
        message: the message, with its permit and with what the header says.
        headers_len, body_len: the sizes of the rest, in bytes.

    Attributes:
        message: as given.
        missing: the number of bytes that are still to come.
    """

    __slots__ = ("_body", "_body_len", "_headers", "_length", "message", "missing")

    def __init__(self, message: Message, headers_len: int, body_len: int) -> None:
        self.message = message
        self._headers = BytesIO() if headers_len else None
        self._body = BytesIO()
        self._body_len = body_len
        self._length = self.missing = headers_len + body_len

    @property
    def nbytes(self) -> int:
        """The number of bytes that have arrived, the header included."""
        return HEADER_SIZE + self._length - self.missing

    def collect(self, data: memoryview) -> int:
        """Copy the bytes that belong to this message, and return how many they are."""
        missing = self.missing
        if len(data) > missing:
            data = data[:missing]
        taken = len(data)
        self.missing = missing - taken
        if self._headers is not None and missing > self._body_len:
            split = missing - self._body_len
            self._headers.write(data[:split])
            data = data[split:]
        self._body.write(data)
        return taken

    def content(self) -> tuple[TextHeaders, bytes]:
        """The headers and the body, once nothing is missing.

        Raises:
            InvalidMessage: the text headers break a rule.
        """
        body = self._body.getvalue()
        if self._headers is None:
            return EMPTY_HEADERS, body
        return TextHeaders.decode(self._headers.getvalue()), body
