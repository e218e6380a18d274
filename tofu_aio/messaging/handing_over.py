"""What the compiled core needs of Python and cannot import, because it is imported first."""

from __future__ import annotations

from ..core import hand_over
from ..protocol.account import NOTHING_TAKEN, PERMIT, Account
from ..protocol.arriving import Arriving
from ..protocol.errors import ChannelEnded, InvalidMessage
from ..protocol.exemptions import ASK_RESPONSES, Exemptions
from ..protocol.lifecycle import UNDECIDED, VERDICTS, State
from ..protocol.message import Message, next_message_id
from ..protocol.op_code import (
    MORE_BIT,
    OP_CODE_MASK,
    ORIGIN_BIT,
    PEER_BITS,
    PUBLIC_BITS,
    OpCode,
)
from ..protocol.pool import Pool
from ..protocol.status import STATUSES, Status
from ..protocol.text_headers import EMPTY_HEADERS, TextHeaders, decoded, encoded
from ..protocol.withdrawal import WITHDRAWAL
from .channel import Channel
from .connection.connection import AT_ONCE, PORTION, SMALL, Connection
from .connection.frame_queue import LONG
from .connection.send_queue import SHORT
from .delivery.dispatcher import Dispatcher
from .delivery.mailbox import NO_ITEMS
from .delivery.replies import ANSWERED
from .delivery.wake_up import raise_in_loop, schedule_wake_ups

hand_over(
    classes=(
        Account,
        Arriving,
        Channel,
        ChannelEnded,
        Connection,
        Dispatcher,
        Exemptions,
        InvalidMessage,
        Message,
        Pool,
        Status,
        TextHeaders,
    ),
    tables=(
        ASK_RESPONSES,
        EMPTY_HEADERS,
        NO_ITEMS,
        NOTHING_TAKEN,
        State.OPEN,
        PERMIT,
        STATUSES,
        UNDECIDED,
        VERDICTS,
    ),
    functions=(decoded, encoded, next_message_id, raise_in_loop, schedule_wake_ups),
    numbers=(
        ANSWERED,
        MORE_BIT,
        OP_CODE_MASK,
        PUBLIC_BITS,
        PEER_BITS,
        PUBLIC_BITS & ~ORIGIN_BIT,
        WITHDRAWAL,
        int(OpCode.RESPONSE),
        int(OpCode.SIGNAL),
        SHORT,
        LONG,
        SMALL,
        PORTION,
        AT_ONCE,
    ),
)
