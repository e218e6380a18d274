"""The ``tofu`` command, as ``python -m tofu_aio``."""

import os
import sys
from typing import Final, NoReturn

_EXTRA: Final = ("click", "rich")
"""The packages that the extra ``cli`` installs. The library itself does not need them."""


def main() -> NoReturn:
    """Run the command and exit with its exit code."""
    try:
        _fill_standard_streams()
        from .cli.app import run  # noqa: PLC0415 - needs the extra

        sys.exit(run())
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name not in _EXTRA:
            raise
        sys.exit(
            f"tofu: the command needs the package {name}, which is not installed: "
            "pip install 'tofu-aio[cli]'"
        )
    except KeyboardInterrupt:
        sys.exit(130)


def _fill_standard_streams() -> None:
    """Open the standard streams that the caller has closed (``tofu ... >&-``).

    Otherwise a socket would get that number, and output meant for the terminal would be sent to it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one


if __name__ == "__main__":
    main()
