"""Credentials files: what NATS's tools write for a user, with a token and the seed of its key."""

from __future__ import annotations

from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Final

from nats.errors import Error as NatsError

_TOKEN: Final = b"BEGIN NATS USER JWT"
_SEED: Final = b"BEGIN USER NKEY SEED"


def check_credentials(path: str) -> None:
    """Check a credentials file before nats-py reads it, which it does for ever without a token.

    Raises:
        NatsError: it cannot be used. The text says why; it has nothing that the file has.
        ImportError: nkeys is not installed.
    """
    nkeys = import_module("nkeys")  # it may not be installed, and has no types
    try:
        lines = Path(path).read_bytes().splitlines()
    except OSError as error:
        raise NatsError(
            f"the credentials file {path} cannot be read: {error.strerror}: check the path"
        ) from error
    found = {
        mark: line.strip()
        for mark in (_TOKEN, _SEED)
        for before, line in pairwise(lines)
        if mark in before
    }
    try:
        if not found[_TOKEN]:
            raise ValueError
        nkeys.from_seed(bytearray(found[_SEED])).wipe()
    except Exception:  # nkeys raises those of base64 and of its cipher as well
        # Without its cause, which may have a part of the seed.
        raise NatsError(
            f"{path} is no credentials file: it needs a user's JWT and its nkey seed, as nsc "
            "generate creds writes them"
        ) from None
