"""``tofu serve``: run an echo server."""

from __future__ import annotations

import contextlib

import click

from ..messaging.channel import Channel
from ..messaging.engine import Engine
from ..protocol.address import Address
from ..protocol.message import Message
from ..protocol.op_code import OpCode
from .parameters import address_argument, pool_option
from .running import loop_option, run


@click.command()
@address_argument
@pool_option
@loop_option
def serve(*, address: Address, pool: int, loop: str) -> None:
    """Run an echo server until Ctrl-C.

    Listens on ADDRESS and responds to each request with the headers and the body of the request.
    Ignores messages of other kinds. ADDRESS is tcp://host:port, uds:///path, uds://@name (Linux
    abstract socket), or nats://broker/service. The host * stands for all addresses of this machine,
    and the port 0 for any free port.

    \b
    Examples:
      tofu serve tcp://127.0.0.1:7000
      tofu serve tcp://*:7000
      tofu serve uds:///tmp/tofu.sock

    The first line of output has the address that it listens on.

    Exit code: 0 after Ctrl-C, 1 if it cannot listen on ADDRESS. In that case a line on stderr gives
    the reason.
    """  # noqa: D301 - \b tells click not to rewrap the paragraph
    with contextlib.suppress(KeyboardInterrupt):
        run(_serve(address, pool), loop)


async def _serve(address: Address, pool: int) -> None:
    async with Engine(pool) as engine, engine.create_group() as group:
        listener = await group.listen(address)
        click.echo(f"listening on {listener.address}")
        await listener.serve(echo)


async def echo(channel: Channel) -> None:
    """Respond to each request, and to each part of one, with its own headers and body."""
    async for message in channel:
        with message:
            if message.op_code is not OpCode.REQUEST:
                continue
            if message.more:  # part of a stream, or of a long request from another implementation
                part = Message(
                    OpCode.RESPONSE, message.body, message.headers, message.message_id, more=True
                )
                await channel.send(part)
            else:
                await channel.reply(message, message.body, message.headers)
