"""A secret that sender and receiver of a file share, and how one shows the other that it has it.

The receiver puts a random challenge into its answer to the Hello; the sender's first part carries
the HMAC-SHA256 of the challenge and of what is offered (RFC 2104). So the secret never travels, and
what travels is worth nothing to the next receiver. It hides nothing: whoever listens on the way
sees the file.
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
"""In the receiver's answer to the Hello."""

PROOF: Final = "File-Proof"
"""In the sender's first part."""

_LONGEST: Final = 4096


def read_secret(path: Path) -> bytes:
    """The secret in a file, without the line end that editors put there.

    Raises:
        Failure: the file is empty, or too long to be a secret.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        secret = file.read(_LONGEST + 1)
    name = click.format_filename(path)
    if len(secret) > _LONGEST:
        raise Failure(f"{name} is longer than {_LONGEST} bytes: is it the secret's file?")
    secret = secret.rstrip(b"\r\n")
    if not secret:
        raise Failure(f"{name} is empty: put a secret into it, 'openssl rand -hex 32' say")
    return secret


def new_challenge() -> str:
    """Nobody has seen it before."""
    return secrets.token_hex(16)


def proof_of(secret: bytes, challenge: str, offer: Offer) -> str:
    """What shows that one has the secret, for this challenge and this file."""
    offered = f"{challenge}\n{offer.size}\n{offer.name}".encode()
    return hmac.digest(secret, offered, "sha256").hex()


def is_proof(given: str, secret: bytes, challenge: str, offer: Offer) -> bool:
    """Whether it is the right one; in the same time however wrong it is."""
    expected = proof_of(secret, challenge, offer)
    return hmac.compare_digest(given.encode(errors="surrogateescape"), expected.encode())
