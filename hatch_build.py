"""Compiles the core when a wheel is built; without a compiler, the wheel is plain Python.

Two variables of the environment, set to 1, decide otherwise. With ``TOFU_AIO_PURE`` nothing is
compiled, and with ``TOFU_AIO_REQUIRE_COMPILED`` what does not compile is an error.
"""

import os
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path
from textwrap import shorten
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path("tofu_aio", "core")
SOURCE = FOLDER / "_compiled.pyx"
MODULE = "tofu_aio.core._compiled"


def is_set(variable: str) -> bool:
    """Whether a variable of the environment is set, to something else than 0."""
    return os.environ.get(variable, "") not in {"", "0"}


class CompiledCore(BuildHookInterface):  # type: ignore[type-arg]
    """A wheel with the compiled core, if it can be compiled here."""

    def dependencies(self) -> list[str]:
        """Return what has to be installed to build this wheel."""
        return [] if is_set("TOFU_AIO_PURE") else ["cython>=3.3,<4", "setuptools>=80"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the core into the wheel or, if the installation is editable, beside its source.

        Raises:
            RuntimeError: It does not compile, and TOFU_AIO_REQUIRE_COMPILED is set.
        """
        name = f"_compiled{sysconfig.get_config_var('EXT_SUFFIX')}"
        beside_source = Path(self.root, FOLDER, name)
        editable = version == "editable"
        if editable:
            beside_source.unlink(missing_ok=True)  # of another version of the source, perhaps
        if is_set("TOFU_AIO_PURE"):
            return
        if sys.implementation.name != "cpython":
            self.stay_plain(f"it is for CPython, and this is {sys.implementation.name}")
            return
        self.temporary = tempfile.TemporaryDirectory(prefix="tofu_aio")
        try:
            built = compile_core(Path(self.temporary.name))
        except Exception as error:  # anything from a missing header to a compiler that crashes
            self.stay_plain(f"{type(error).__name__}: {error}", error)
            return
        if editable:
            shutil.copyfile(built, beside_source)
        else:
            build_data["pure_python"] = False
            build_data["infer_tag"] = True
            build_data["force_include"][str(built)] = str(FOLDER / name)

    def stay_plain(self, why: str, error: Exception | None = None) -> None:
        """Say in one line that the wheel is plain Python, or refuse to build it."""
        why = shorten(why, 200, placeholder=" ...")  # a whole command, perhaps
        if is_set("TOFU_AIO_REQUIRE_COMPILED"):
            raise RuntimeError(
                f"tofu_aio: the compiled core cannot be built: {why}. "
                "Set TOFU_AIO_PURE=1 for plain Python"
            ) from error
        self.app.display_warning(
            f"tofu_aio: built as plain Python, for its compiled core cannot be built: {why}"
        )

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what the compiler has left."""
        if hasattr(self, "temporary"):
            self.temporary.cleanup()


def compile_core(folder: Path) -> Path:
    """Compile the core with what this folder is for, and return the extension module."""
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension
    from setuptools.command.build_ext import build_ext

    # Python's own flags come first: they optimize, and would add debug information of several times
    # the size of the code. Who sets CFLAGS, to debug or to use a sanitizer, gets only that.
    own_flags = "CFLAGS" in os.environ or sys.platform == "win32"
    extension = Extension(
        MODULE,
        [str(SOURCE)],
        include_dirs=[str(FOLDER)],
        extra_compile_args=[] if own_flags else ["-O2", "-g0"],
    )
    extensions = cythonize([extension], build_dir=str(folder), force=True, quiet=True)
    command = build_ext(Distribution({"ext_modules": extensions}))
    command.build_lib, command.build_temp = str(folder / "lib"), str(folder / "temp")
    command.ensure_finalized()
    command.run()
    return Path(command.get_ext_fullpath(MODULE))
