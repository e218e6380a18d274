"""The statuses' numbers are on the wire: their order may never change."""

from __future__ import annotations

from tofu_aio.protocol.status import STATUSES, Status

IN_ORDER = [
    "success",
    "not_implemented_yet",
    "wrong_address",
    "not_allowed",
    "null_message",
    "invalid_message",
    "invalid_op_code",
    "invalid_headers_len",
    "invalid_body_len",
    "invalid_more_usage",
    "invalid_channel_number",
    "invalid_channel_group",
    "invalid_message_id",
    "invalid_address",
    "uds_path_not_found",
    "notification_disabled",
    "notification_failed",
    "peer_disconnected",
    "communication_failed",
    "pool_empty",
    "allocation_failed",
    "receiver_update",
    "channel_closed",
    "shutdown_started",
    "connect_failed",
    "listen_failed",
    "accept_failed",
    "send_failed",
    "recv_failed",
    "setsockopt_failed",
    "processing_failed",
    "unknown_error",
]


def test_the_order_is_the_wire_s() -> None:
    assert [status.name.lower() for status in Status] == IN_ORDER
    assert [status.value for status in Status] == list(range(len(IN_ORDER)))


def test_every_byte_has_a_status_and_one_beyond_the_last_is_an_unknown_error() -> None:
    beyond = [Status.UNKNOWN_ERROR] * (256 - len(IN_ORDER))
    assert list(STATUSES) == [*Status, *beyond]
    assert {type(status) for status in STATUSES} == {Status}
