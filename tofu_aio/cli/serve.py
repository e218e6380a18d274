"""``tofu serve``: an echo server."""

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
    """Echo every request, until Ctrl-C.

    Every request at ADDRESS gets a response with its own headers and body; what needs no answer
    gets none. ADDRESS is tcp://host:port, uds:///path, or uds://@name (Linux abstract). The host
    * stands for all addresses of this machine, and port 0 for any that is free.

    \b
    Examples:
      tofu serve tcp://127.0.0.1:7000
      tofu serve tcp://*:7000
      tofu serve uds:///tmp/tofu.sock

    The first line of output says where it listens.

    Exit code 0 after Ctrl-C, its usual end; 1 if it could not listen, and one line on stderr why.
    """  # noqa: D301 - \b is click's mark for lines to be left as they are
    with contextlib.suppress(KeyboardInterrupt):
        run(_serve(address, pool), loop)


async def _serve(address: Address, pool: int) -> None:
    async with Engine(pool) as engine, engine.create_group() as group:
        listener = await group.listen(address)
        click.echo(f"listening on {listener.address}")
        await listener.serve(echo)


async def echo(channel: Channel) -> None:
    """Answer requests, part by part; what needs no answer gets none."""
    async for message in channel:
        with message:
            if message.op_code is not OpCode.REQUEST:
                continue
            if message.more:  # of a stream, or of a long request of a peer that is no tofu_aio
                part = Message(
                    OpCode.RESPONSE, message.body, message.headers, message.message_id, more=True
                )
                await channel.send(part)
            else:
                await channel.reply(message, message.body, message.headers)
