"""Certificates in files, as commands take them."""

from __future__ import annotations

from pathlib import Path

from tests.messaging.certificates import authority


class Files:
    """Certificates in files."""

    def __init__(self, folder: Path) -> None:
        server = authority().issue_cert("localhost")
        self.ca, self.server = folder / "ca.pem", folder / "server.pem"
        authority().cert_pem.write_to_path(self.ca)
        server.private_key_and_cert_chain_pem.write_to_path(self.server)
        client = authority().issue_cert("client.example")
        self.cert, self.key = folder / "client.crt", folder / "client.key"
        client.cert_chain_pems[0].write_to_path(self.cert)
        client.private_key_pem.write_to_path(self.key)
        self.nonsense = folder / "nonsense.txt"
        self.nonsense.write_text("nonsense", encoding="ascii")
