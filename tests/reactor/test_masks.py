"""What masks mean."""

from __future__ import annotations

import pytest

from tofu_aio.reactor.pollers.masks import Masks
from tofu_aio.reactor.pollers.poller import BOTH, READ, WRITE

IN, OUT, ERR, HUP = 1, 4, 8, 16


@pytest.mark.parametrize(
    ("mask", "said"),
    [(IN, READ), (OUT, WRITE), (IN | OUT, BOTH)]
    + [(extra | more, BOTH) for extra in (0, IN, OUT) for more in (ERR, HUP, ERR | HUP, 0x2000)],
)
def test_what_is_not_plain_readiness_is_both(mask, said):
    masks = Masks(IN, OUT)
    assert masks[mask] == said
    assert masks[mask] == said
