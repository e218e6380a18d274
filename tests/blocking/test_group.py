"""The blocking group: connecting, and messages."""

from __future__ import annotations

import pytest

import tofu_aio as tofu
from tests.blocking.conftest import PATIENCE
from tofu_aio import OpCode, Status, blocking


def test_connecting_fails_with_the_reason(group: blocking.ChannelGroup) -> None:
    with pytest.raises(tofu.ConnectFailed, match="nobody is listening"):
        group.connect("tcp://127.0.0.1:1")
    with pytest.raises(tofu.InvalidAddress):
        group.connect("there")
    with pytest.raises(tofu.InvalidAddress):
        group.listen("there")


def test_a_conversation_as_messages(group: blocking.ChannelGroup) -> None:
    where = tofu.parse_address("tcp://127.0.0.1:0").to_header()
    group.post(tofu.Message(OpCode.WELCOME_REQUEST, headers={"~listen_on": where}))
    answer = group.receive(PATIENCE)
    assert (answer.op_code, answer.status) == (OpCode.WELCOME_RESPONSE, Status.SUCCESS)
    headers = {"~connect_to": answer.headers["~listen_on"]}
    c = group.post(tofu.Message(OpCode.HELLO_REQUEST, headers=headers)).channel_number
    asked = group.receive(PATIENCE)
    assert asked.op_code is OpCode.HELLO_REQUEST
    accepted = tofu.Message(OpCode.HELLO_RESPONSE)
    accepted.channel_number = asked.channel_number
    group.post(accepted)
    assert group.receive(PATIENCE).channel_number == c
    group.update_receiver()
    assert group.receive(PATIENCE).status is Status.RECEIVER_UPDATE
    own = tofu.Message(OpCode.SIGNAL)
    group.update_receiver(own)
    assert group.receive(PATIENCE).origin is tofu.Origin.APPLICATION
    with pytest.raises(tofu.InvalidChannelNumber):
        group.post(tofu.Message(OpCode.SIGNAL))
    reset = tofu.Message(OpCode.BYE_SIGNAL)
    reset.channel_number = c
    group.post(reset)
    ended = set()
    while len(ended) < 2:
        message = group.receive(PATIENCE)
        if message.status is Status.CHANNEL_CLOSED:
            ended.add(message.channel_number)
    assert ended == {c, asked.channel_number}
