"""Each status as an exception, and what else that exception is."""

from __future__ import annotations

import copy
import pickle

import anyio
import pytest

from tofu_aio.protocol import errors
from tofu_aio.protocol.errors import (
    ERRORS,
    ChannelEnded,
    ConnectFailed,
    ExchangeFailed,
    ProtocolViolation,
    Rejected,
    TofuError,
    again,
)
from tofu_aio.protocol.status import Status

BASES: dict[str, type[Exception] | None] = {
    "NotImplementedYet": NotImplementedError,
    "WrongAddress": ValueError,
    "NotAllowed": None,
    "NullMessage": ValueError,
    "InvalidMessage": ValueError,
    "InvalidOpCode": ValueError,
    "InvalidHeadersLen": ValueError,
    "InvalidBodyLen": ValueError,
    "InvalidMoreUsage": ValueError,
    "InvalidChannelNumber": ValueError,
    "InvalidChannelGroup": ValueError,
    "InvalidMessageId": ValueError,
    "InvalidAddress": ValueError,
    "UdsPathNotFound": FileNotFoundError,
    "NotificationDisabled": None,
    "NotificationFailed": None,
    "PeerDisconnected": anyio.BrokenResourceError,
    "CommunicationFailed": anyio.BrokenResourceError,
    "PoolEmpty": None,
    "AllocationFailed": MemoryError,
    "ReceiverUpdate": None,
    "ChannelClosed": anyio.ClosedResourceError,
    "ShutdownStarted": anyio.ClosedResourceError,
    "ConnectFailed": ConnectionError,
    "ListenFailed": OSError,
    "AcceptFailed": OSError,
    "SendFailed": anyio.BrokenResourceError,
    "RecvFailed": anyio.BrokenResourceError,
    "SetsockoptFailed": OSError,
    "ProcessingFailed": None,
    "UnknownError": None,
}
"""In the order of their statuses, from 1."""

CLASSES = [*ERRORS.values(), ChannelEnded, ProtocolViolation, ExchangeFailed, Rejected]


def test_every_status_but_success_has_its_class() -> None:
    assert {status: error.__name__ for status, error in ERRORS.items()} == {
        Status(value): name for value, name in enumerate(BASES, start=1)
    }


@pytest.mark.parametrize("error", ERRORS.values())
def test_the_ecosystem_knows_it(error: type[TofuError]) -> None:
    base = BASES[error.__name__]
    assert error.__bases__ == ((TofuError, base) if base else (TofuError,))
    assert getattr(errors, error.__name__) is error


def test_a_rejection_has_any_status_but_success() -> None:
    assert Rejected.__bases__ == (TofuError,)
    assert Rejected("who are you?").status is Status.NOT_ALLOWED
    assert Rejected("later", Status.SHUTDOWN_STARTED).status is Status.SHUTDOWN_STARTED
    assert str(Rejected(status=Status.POOL_EMPTY)) == "pool empty"
    with pytest.raises(ValueError, match=r"cannot have the status SUCCESS.*or return to accept"):
        Rejected("come in", Status.SUCCESS)


def test_three_ends_share_a_status_with_a_class_proper() -> None:
    assert ChannelEnded.__bases__ == (TofuError, anyio.EndOfStream)
    assert ChannelEnded.status is Status.CHANNEL_CLOSED
    assert ProtocolViolation.__bases__ == (TofuError, anyio.BrokenResourceError)
    assert ProtocolViolation("").status is Status.INVALID_MESSAGE
    assert ProtocolViolation("", Status.INVALID_OP_CODE).status is Status.INVALID_OP_CODE
    assert ExchangeFailed.__bases__ == (TofuError, anyio.BrokenResourceError)
    assert ExchangeFailed("").status is Status.PROCESSING_FAILED
    assert ExchangeFailed("", Status.NOT_ALLOWED).status is Status.NOT_ALLOWED


@pytest.mark.parametrize("error", CLASSES)
def test_it_reads_as_its_message(error: type[TofuError]) -> None:
    assert str(error("the port is taken: choose another")) == "the port is taken: choose another"


@pytest.mark.parametrize("error", ERRORS.values())
def test_without_a_message_it_reads_as_its_status(error: type[TofuError]) -> None:
    assert str(error()) == error.status.name.lower().replace("_", " ")


@pytest.mark.parametrize("error", CLASSES)
@pytest.mark.parametrize("through", [copy.copy, copy.deepcopy, again, pickle])
def test_a_copy_is_the_same_error(error: type[TofuError], through: object) -> None:
    original = error("why and what to do")
    if through is pickle:
        twin = pickle.loads(pickle.dumps(original))
    else:
        assert callable(through)
        twin = through(original)
    assert twin is not original
    assert type(twin) is error
    assert (str(twin), twin.args, twin.status) == (str(original), original.args, original.status)


def test_a_copy_keeps_a_status_of_its_own() -> None:
    violation = ProtocolViolation("at byte 0", Status.INVALID_OP_CODE)
    assert again(violation).status is Status.INVALID_OP_CODE
    assert pickle.loads(pickle.dumps(violation)).status is Status.INVALID_OP_CODE


def test_raised_again_it_has_the_cause_and_a_traceback_of_its_own() -> None:
    cause = OSError("refused")
    try:
        raise ConnectFailed("nobody listens") from cause
    except ConnectFailed as caught:
        original = caught
    twin = again(original)
    assert twin.__cause__ is cause
    assert twin.__traceback__ is None
    assert original.__traceback__ is not None
