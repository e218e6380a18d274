"""A secret that the sender and the receiver of a file share, and its challenge-response protocol.

The receiver puts a random challenge into its answer to the Hello. The sender's first part carries
the HMAC-SHA256 (RFC 2104) of the challenge and the offer. So the secret itself is not transmitted,
and the proof is of no use with another receiver. Nothing is encrypted: an eavesdropper sees the
file.
"""

from __future__ import annotations

import hmac
import secrets
from pathlib import Path
from typing import Final

import click

from .errors import Failure
from .transfer import Offer

CHALLENGE: Final = "File-Challenge"
"""The header of the challenge, in the receiver's answer to the Hello."""

PROOF: Final = "File-Proof"
"""The header of the proof, in the sender's first part."""

_MAX_LENGTH: Final = 4096


def read_secret(path: Path) -> bytes:
    """Read the secret from a file, without the line break at its end, which editors add.

    Raises:
        Failure: the file is empty, or too long to be a secret.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        secret = file.read(_MAX_LENGTH + 1)
    name = click.format_filename(path)
    if len(secret) > _MAX_LENGTH:
        raise Failure(
            f"{name} is longer than {_MAX_LENGTH} bytes: is this the file with the secret?"
        )
    secret = secret.rstrip(b"\r\n")
    if not secret:
        raise Failure(
            f"{name} is empty: write a secret to it, for example with 'openssl rand -hex 32'"
        )
    return secret


def new_challenge() -> str:
    """A random challenge, so that an earlier proof cannot be used again."""
    return secrets.token_hex(16)


def proof_of(secret: bytes, challenge: str, offer: Offer) -> str:
    """Compute the proof of having the secret, for this challenge and this file."""
    offered = f"{challenge}\n{offer.size}\n{offer.name}".encode()
    return hmac.digest(secret, offered, "sha256").hex()


def is_proof(given: str, secret: bytes, challenge: str, offer: Offer) -> bool:
    """Whether a proof is correct. The comparison takes the same time whatever is given."""
    expected = proof_of(secret, challenge, offer)
    return hmac.compare_digest(given.encode(errors="surrogateescape"), expected.encode())
