"""The parser of nats-py, for which a subject ends where it does for a broker."""

# nats-py's own signatures have the type Any.
# mypy: disable-error-code="explicit-any"

from __future__ import annotations

import re
from types import FunctionType
from typing import Any, Final

import nats.protocol.parser as theirs

_HEADS: Final = {
    "MSG_RE": re.compile(rb"\AMSG ([^ \n]+) ([0-9]+) (([^ \n]+) )?([0-9]+)\r\n"),
    "HMSG_RE": re.compile(rb"\AHMSG ([^ \n]+) ([0-9]+) (([^ \n]+) )?([0-9]+) ([0-9]+)\r\n"),
}
"""The line before a message, exactly as brokers write it, under the names that nats-py gives it.

Its own expressions take a vertical tab, a form feed and a carriage return for the end of a subject.
So whoever may publish a message to this program could end its connection with one of them, and with
many of them, keep its processor busy for a second: the time grows with the square of their number.
"""


class Parser(theirs.Parser):
    """nats-py's, with these expressions in place of its own, which other programs go on to use."""

    parse: Any = FunctionType(
        theirs.Parser.parse.__code__,
        {**vars(theirs), **_HEADS},
        argdefs=theirs.Parser.parse.__defaults__,
    )
