"""A service for the tests of commands that call one.

The first argument is its address. With ``tls``, a second one is a file with its certificate and
key. With ``statistics``, it tells its statistics. It prints the address that it listens on.
"""

from __future__ import annotations

import ssl
import sys

import tofu_aio as tofu
from tests.service.observed import add_handlers


def service() -> tofu.Service:
    made = tofu.Service(statistics="statistics" in sys.argv)
    add_handlers(made)

    @made.handler("token")
    async def token(call: tofu.Call) -> list[str | None]:
        return [call.headers.get("token"), call.hello.get("token")]

    @made.handler("raw")
    async def raw() -> bytes:
        return b"\x00raw"

    @made.handler("echo")
    async def echo(value: object) -> object:
        return value

    @made.handler("nothing")
    async def nothing() -> None:
        pass

    return made


class Printed:
    """Prints the address once the service listens; a task status of anyio."""

    def started(self, addresses: list[tofu.Address]) -> None:
        print("listening on", addresses[0], flush=True)


def main() -> None:
    context = None
    for argument in sys.argv[2:]:
        if argument.endswith(".pem"):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(argument)
    tofu.run(service().serve(sys.argv[1], drain=0, task_status=Printed(), ssl=context))


if __name__ == "__main__":
    main()
