"""The ``tofu`` command, as ``python -m tofu_aio``."""

import os
import sys
from typing import Final, NoReturn

_EXTRA: Final = ("click", "rich")
"""What the ``cli`` extra installs. The library itself needs none of it."""


def main() -> NoReturn:
    """Run the command and exit with its code."""
    try:
        _fill_standard_streams()
        from .cli.app import run  # noqa: PLC0415 - only here is it known to be wanted

        sys.exit(run())
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name not in _EXTRA:
            raise
        sys.exit(f"tofu: the command needs {name}, which is missing: pip install 'tofu-aio[cli]'")
    except KeyboardInterrupt:
        sys.exit(130)


def _fill_standard_streams() -> None:
    """Open what the caller has closed (``tofu ... >&-``).

    Else a socket would get that number, and whoever writes to standard output would write to it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one


if __name__ == "__main__":
    main()
