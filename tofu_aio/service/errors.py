"""The error of a call, at the handler that raises it and at the caller that receives it."""

from __future__ import annotations

import re
from typing import Final

from ..protocol.errors import TofuError
from ..protocol.status import Status

OK: Final = "ok"
CANCELLED: Final = "cancelled"
INVALID_ARGUMENT: Final = "invalid_argument"
UNIMPLEMENTED: Final = "unimplemented"
INTERNAL: Final = "internal"
DEADLINE_EXCEEDED: Final = "deadline_exceeded"
RESOURCE_EXHAUSTED: Final = "resource_exhausted"
UNAVAILABLE: Final = "unavailable"
PERMISSION_DENIED: Final = "permission_denied"
UNAUTHENTICATED: Final = "unauthenticated"
INVALID_BODY_LEN: Final = "invalid_body_len"

STATUSES: Final = {
    INVALID_ARGUMENT: Status.INVALID_MESSAGE,
    UNIMPLEMENTED: Status.NOT_IMPLEMENTED_YET,
    RESOURCE_EXHAUSTED: Status.ALLOCATION_FAILED,
    UNAVAILABLE: Status.SHUTDOWN_STARTED,
    PERMISSION_DENIED: Status.NOT_ALLOWED,
    UNAUTHENTICATED: Status.NOT_ALLOWED,
    INVALID_BODY_LEN: Status.INVALID_BODY_LEN,
}
"""The status byte for a code, for peers that do not read headers. Others: PROCESSING_FAILED."""

_CODE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class ServiceError(TofuError):
    """A call failed: raised by a handler, and then by the caller's ``call``.

    A handler raises it to tell its caller what went wrong. The code is for programs, the text for
    people. These codes have the meaning that gRPC gives them, and a service uses them itself:

    - ``invalid_argument``: the payload cannot be decoded, or a header makes no sense.
    - ``unimplemented``: no handler has this name.
    - ``cancelled``: something on the service's side has cancelled the handler's task.
    - ``deadline_exceeded``: the caller's time is over. The caller raises ``TimeoutError``.
    - ``resource_exhausted``: too many streams are open.
    - ``unavailable``: the subscription ends, because the service is shutting down. A handler may
      raise it for a call that it has not begun. A client tries such a call again.
    - ``invalid_body_len``: the payload, or an item of it, is too long.
    - ``internal``: the handler raised any other exception, which is logged there.

    Any other code is the program's own. If something else than a service refused the request, the
    code is the status in lower case.

    Args:
        code: what kind of failure it is: 1 to 64 letters, digits, dots, dashes and underscores.
        text: what happened.
        details: anything that the codec of the call can encode, or None.

    Attributes:
        code: as given.
        text: as given.
        details: as given. At the caller it has plain types: dict, list, str.
        status: the status on the wire.
        received: whether it came from a service. If a handler lets such an error pass, its caller
            is told ``internal``: what another service says is not meant for that caller. To pass it
            on, raise a new one.

    Raises:
        ValueError: ``code`` has another form.
    """

    status = Status.PROCESSING_FAILED

    def __init__(self, code: str, text: str = "", details: object = None) -> None:
        for what, value in (("code", code), ("text", text)):
            if not isinstance(value, str):
                raise TypeError(f"the {what} of an error is {value!r:.80}: give a str")
        if not _CODE.fullmatch(code):
            raise ValueError(
                f"the code of an error is {code!r:.80}: use 1 to 64 letters, digits, dots, dashes "
                'and underscores, such as "not_found"'
            )
        super().__init__(code, text, details)
        self.code = code
        self.text = text
        self.details = details
        self.received = False
        self.status = STATUSES.get(code, Status.PROCESSING_FAILED)

    def __str__(self) -> str:
        return f"{self.code}: {self.text}" if self.text else self.code
