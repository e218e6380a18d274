"""Which core runs, and why."""

from __future__ import annotations

import os
import warnings
from contextlib import suppress
from importlib import import_module
from types import ModuleType
from typing import Final

from . import plain

PURE_IS_SET: Final = "TOFU_AIO_PURE is set"
NOT_INSTALLED: Final = "no compiled core is installed"
ANOTHER_COPY: Final = "another copy of tofu_aio in this process has the compiled core"
SUBINTERPRETER: Final = "this is a subinterpreter"


def in_subinterpreter() -> bool:
    """Whether this is another interpreter than the process's first one.

    One interpreter of a process can load the compiled core. It should be the main one, whichever
    imports first.
    """
    for name in ("_interpreters", "_xxsubinterpreters"):  # since Python 3.13, and before
        with suppress(ImportError):
            interpreters = import_module(name)
            return bool(interpreters.get_current() != interpreters.get_main())
    return False


def choose() -> tuple[ModuleType, str]:
    """Return the module that is the core, and why it is plain Python; "" if it is compiled.

    Warns:
        RuntimeWarning: A compiled core is installed, but it does not load.
    """
    if os.environ.get("TOFU_AIO_PURE", "") not in {"", "0"}:
        return plain, PURE_IS_SET
    if in_subinterpreter():
        return plain, SUBINTERPRETER
    name = f"{__package__}._compiled"
    try:
        compiled = import_module(name)
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            return plain, NOT_INSTALLED
        warnings.warn(
            f"tofu_aio's compiled core does not load ({error}), so plain Python runs, which is "
            "slower. Install tofu_aio again, or set TOFU_AIO_PURE=1 if plain Python is wanted",
            RuntimeWarning,
            stacklevel=2,
        )
        return plain, f"the compiled core does not load: {error}"
    # It holds the classes of one package, and there is one of it in a process.
    owner = compiled.__dict__.setdefault("owner", plain)
    return (compiled, "") if owner is plain else (plain, ANOTHER_COPY)
