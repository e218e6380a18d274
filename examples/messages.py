"""Have a whole conversation at the message level, in one group: python messages.py."""

import tofu_aio as tofu
from tofu_aio import Message, OpCode, Status


async def main() -> None:
    async with tofu.Engine() as engine, engine.create_group() as group:
        group.post(Message(OpCode.WELCOME_REQUEST, headers={"~listen_on": "tcp|127.0.0.1|0"}))
        while True:
            message = await group.receive()
            print(message)
            number = message.channel_number
            match message.op_code:
                case OpCode.WELCOME_RESPONSE:  # our listener is ready; this is its address
                    where = message.headers["~listen_on"]
                    group.post(Message(OpCode.HELLO_REQUEST, headers={"~connect_to": where}))
                case OpCode.HELLO_REQUEST:  # a client has connected: accept it
                    post(group, number, Message(OpCode.HELLO_RESPONSE))
                case OpCode.HELLO_RESPONSE:  # we were accepted: make a request
                    post(group, number, Message(OpCode.REQUEST, b"ping"))
                case OpCode.REQUEST:
                    answer = Message(OpCode.RESPONSE, b"pong", message_id=message.message_id)
                    post(group, number, answer)
                case OpCode.RESPONSE:  # close the channel
                    post(group, number, Message(OpCode.BYE_REQUEST))
                case OpCode.BYE_REQUEST:
                    post(group, number, Message(OpCode.BYE_RESPONSE))
                case OpCode.SIGNAL if message.status is Status.CHANNEL_CLOSED:
                    return


def post(group: tofu.ChannelGroup, number: int, message: Message) -> None:
    message.channel_number = number
    group.post(message)


tofu.run(main())
