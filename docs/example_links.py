"""For mkdocs: the link above each embedded example is for who reads the page in the repository.

There the page shows no code. The built pages do, and have no folder of examples to link to.
"""

from __future__ import annotations

import re

_LINK = re.compile(r"^\[(`examples/\w+\.py`)\]\([./]+/examples/\w+\.py\)$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: object) -> str:
    """Keep the name of the file, without the link."""
    return _LINK.sub(r"\1", markdown)
