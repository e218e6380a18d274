"""A peer that speaks TLS by hand, over a socket by hand: on either side."""

from __future__ import annotations

import contextlib
import ssl
from pathlib import Path
from typing import Any

from tests.messaging.peers import RawPeer
from tests.messaging.records import Sealer, sealer


class RawTls:
    """TLS on a raw peer.

    Args:
        peer: the socket.
        context: of this side.
        server_side: which that is.
    """

    def __init__(
        self, peer: RawPeer, context: ssl.SSLContext, *, server_side: bool = False
    ) -> None:
        self.raw = peer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ssl = context.wrap_bio(
            self._incoming, self._outgoing, server_side, None if server_side else "127.0.0.1"
        )
        self._handshake = b""  # what the server says in it

    async def _do(self, step: Any, *args: Any) -> Any:
        while True:
            try:
                return step(*args)
            except ssl.SSLWantReadError:
                await self._send()
                data = await self.raw._receive()
                assert data, "the connection ended"
                self._incoming.write(data)
                if not self._ssl.server_side:
                    self._handshake += data

    async def _send(self) -> None:
        data = self._outgoing.read()
        if self._ssl.server_side:
            self._handshake += data
        await self.raw.send(data)

    async def shake(self) -> None:
        """Make the handshake."""
        await self._do(self._ssl.do_handshake)
        await self._send()

    def sealed(self, data: bytes) -> bytes:
        """What would travel."""
        self._ssl.write(data)
        return self._outgoing.read()

    def sealer(self, keys: Path) -> Sealer:
        """What makes its records from now on; ``sealed`` cannot any more.

        Args:
            keys: its context's ``keylog_filename``.
        """
        return sealer(self._ssl, keys, self._handshake)

    async def read(self) -> bytes:
        """Some of what the peer has said."""
        return bytes(await self._do(self._ssl.read, 65536))

    def notify(self) -> bytes:
        """What says, in TLS, that nothing more comes."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self._ssl.unwrap()
        return self._outgoing.read()
