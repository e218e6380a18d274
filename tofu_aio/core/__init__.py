"""Where the compiled core replaces plain Python, if it is there.

Objects of the hot path keep their fields in base classes from here, and their hot methods are
marked ``@fast``. In plain Python the base classes only have ``__slots__``, and ``fast`` returns the
method as it is. The compiled core has the same base classes as C structures, and its own version of
each marked method. That version handles the common case and calls the Python method for everything
else, so the Python method stays the reference. Nothing else in the package knows which one runs.

``TOFU_AIO_PURE=1`` in the environment forces plain Python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .choosing import choose

WHY_PLAIN: str
"""Why plain Python runs; "" if the compiled core does."""

if TYPE_CHECKING:
    from . import plain as chosen
else:
    chosen, WHY_PLAIN = choose()

COMPILED: Final[bool] = not WHY_PLAIN
"""Whether the compiled core runs."""

AccountFields = chosen.AccountFields
ChannelFields = chosen.ChannelFields
ConnectionFields = chosen.ConnectionFields
DecoderFields = chosen.DecoderFields
DispatcherFields = chosen.DispatcherFields
ExemptionsFields = chosen.ExemptionsFields
GateFields = chosen.GateFields
Inbox = chosen.Inbox
MailboxFields = chosen.MailboxFields
MessageFields = chosen.MessageFields
PendingFields = chosen.PendingFields
PoolFields = chosen.PoolFields
QueueFields = chosen.QueueFields
counter = chosen.counter
fast = chosen.fast
hand_over = chosen.hand_over
