"""What masks mean."""

from __future__ import annotations

import pytest

from tofu_aio.reactor.pollers.masks import meanings
from tofu_aio.reactor.pollers.poller import BOTH, READ, WRITE

IN, OUT, ERR, HUP = 1, 4, 8, 16


@pytest.mark.parametrize(
    ("mask", "said"),
    [(IN, READ), (OUT, WRITE), (IN | OUT, BOTH)]
    + [(extra | end, BOTH) for extra in (0, IN, OUT, IN | OUT) for end in (ERR, HUP, ERR | HUP)],
)
def test_what_is_not_plain_readiness_is_both(mask, said):
    assert meanings(IN, OUT, ERR, HUP)[mask] == said
