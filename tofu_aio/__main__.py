"""The ``tofu`` command, as ``python -m tofu_aio``."""

import sys
from typing import Final, NoReturn

_EXTRA: Final = ("click", "rich")
"""What the ``cli`` extra installs. The library itself needs none of it."""


def main() -> NoReturn:
    """Run the command and exit with its code."""
    try:
        from .cli.app import run  # noqa: PLC0415 - only here is it known to be wanted
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name not in _EXTRA:
            raise
        sys.exit(f"tofu: the command needs {name}, which is missing: pip install 'tofu-aio[cli]'")
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(run())


if __name__ == "__main__":
    main()
