"""An authority for the tests, what it signs, and contexts that trust it."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from trustme import CA


def new_authority() -> CA:
    """Somebody who signs; without the package that makes them the test is skipped."""
    why = "trustme stands on cryptography, which is not everywhere, as on free-threaded Pythons"
    authority: CA = pytest.importorskip("trustme", reason=why, exc_type=ImportError).CA()
    return authority


@cache
def authority() -> CA:
    """Whom the contexts here trust."""
    return new_authority()


@cache
def server_context(
    *names: str, mutual: bool = False, expired: bool = False, stranger: bool = False
) -> ssl.SSLContext:
    """A listener's, with a certificate for these names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authorised = new_authority() if stranger else authority()
    yesterday = datetime.now(UTC) - timedelta(days=1)
    authorised.issue_cert(
        *(names or ("localhost", "127.0.0.1")), not_after=yesterday if expired else None
    ).configure_cert(context)
    if mutual:
        authority().configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@cache
def client_context(
    name: str = "", *, stranger: bool = False, tls12: bool = False, trusting: bool = False
) -> ssl.SSLContext:
    """A client's, with a certificate if it has a name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority().configure_trust(context)
    if name:
        (new_authority() if stranger else authority()).issue_cert(name).configure_cert(context)
    if tls12:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    if trusting:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def telling(keys: Path, *, server_side: bool, trusting: bool = False) -> ssl.SSLContext:
    """A context of either side whose secrets go to a file: for one connection, and not kept."""
    if server_side:
        context = server_context.__wrapped__()
    else:
        context = client_context.__wrapped__(trusting=trusting)
    context.keylog_filename = str(keys)
    return context
