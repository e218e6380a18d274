"""The options for TLS, as curl names them, and the context that they describe."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, ParamSpec, TypeVar, cast

import click

from ..messaging.options import AttemptOptions
from ..protocol.address import Address, TcpAddress
from .errors import Failure, describe
from .parameters import PATH

P = ParamSpec("P")
R = TypeVar("R")

_META: Final = "tofu_aio.cli.tls"
"""Where click's context keeps the options, so that commands need no parameter for each."""


def _keep(context: click.Context, parameter: click.Parameter, value: object) -> None:
    kept = cast("dict[str, object]", context.meta.setdefault(_META, {}))
    if value:
        kept[parameter.name or ""] = value


_flag: Final = partial(click.option, is_flag=True, expose_value=False, callback=_keep)
_file: Final = partial(click.option, type=PATH, metavar="FILE", expose_value=False, callback=_keep)
_name: Final = partial(click.option, metavar="NAME", expose_value=False, callback=_keep)


def tls_options(command: Callable[P, R]) -> Callable[P, R]:
    """Decorate a command with the options for TLS."""
    for option in (
        _flag("--insecure", help="Do not verify the listener's certificate."),
        _name(
            "--server-name",
            help="The name that the listener's certificate must have, if it is not the host of "
            "ADDRESS.",
        ),
        _file("--key", help="The private key for --cert, if it is in another file."),
        _file("--cert", help="This side's own certificate, in PEM."),
        _file("--cafile", help="Certificates of the authorities to trust, in PEM."),
        _flag(
            "--tls",
            help="Use TLS, and verify the listener's certificate. The options below imply it.",
        ),
    ):  # the last one is the first in the help
        command = option(command)
    return command


def tls_for(address: Address) -> AttemptOptions:
    """The options for ``connect`` that the command line asks for; none without TLS.

    Raises:
        UsageError: the options contradict each other, or the address.
        Failure: a file cannot be used.
    """
    given = cast("dict[str, object]", click.get_current_context().meta.get(_META, {}))
    if not given:
        return {}
    if not isinstance(address, TcpAddress):
        raise click.UsageError("TLS is for tcp:// addresses: leave its options out")
    cafile, cert, key = (cast("Path | None", given.get(name)) for name in ("cafile", "cert", "key"))
    insecure = "insecure" in given
    if key is not None and cert is None:
        raise click.UsageError("--key needs --cert, the certificate that it belongs to")
    if insecure and cafile is not None:
        raise click.UsageError("--insecure verifies nothing: leave out it or --cafile")
    options: AttemptOptions = {"ssl": _context(cafile, cert, key, insecure=insecure)}
    if "server_name" in given:
        options["server_hostname"] = str(given["server_name"])
    return options


def _context(
    cafile: Path | None, cert: Path | None, key: Path | None, *, insecure: bool
) -> ssl.SSLContext:
    for path in (cafile, cert, key):
        if path is not None:
            _check_readable(path)
    try:
        context = ssl.create_default_context(cafile=cafile)
    except ssl.SSLError:
        raise Failure(f"{cafile}: there is no certificate in PEM in this file") from None
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if cert is not None:
        try:
            context.load_cert_chain(cert, key)
        except ssl.SSLError as error:
            raise Failure(
                f"{cert}: it cannot be used as a certificate ({error.reason or error}): give a PEM "
                "file, and with --key the private key that belongs to it"
            ) from error
    return context


def _check_readable(path: Path) -> None:
    """OpenSSL does not say which file it cannot read."""
    try:
        path.open("rb").close()
    except OSError as error:
        raise Failure(describe(error)) from error
