"""Runs tests on a core that is compiled with the address and undefined-behaviour sanitizers.

``python -m tests.core.sanitizing``, with other tests as arguments. Needs gcc with its libraries.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.core.building import compile_in, copied, run_tests

TESTS: Final = (
    *("tests/core", "tests/protocol", "tests/messaging/test_channel.py"),
    *("tests/messaging/connection", "tests/messaging/delivery", "tests/messaging/flow_control"),
)
FLAGS: Final = (
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"),
    *("-g", "-fno-omit-frame-pointer"),
)
# What others leak at exit, by a word of the stack: strings that Python 3.12 has interned, what
# tracemalloc has noted of memory, and cryptography's module. What the garbage collector knows of is
# never a leak here, because its lists lead there; the session ``leaks`` looks for that.
SUPPRESSED: Final = ("PyUnicode_New", "tracemalloc", "cryptography", "_cffi_backend")
FOUND: Final = ("AddressSanitizer", "runtime error:")


def libraries() -> list[str] | None:
    """Where gcc has the sanitizers, or None if it has none."""
    if sys.platform != "linux" or shutil.which("gcc") is None:
        return None
    paths = []
    for name in ("libasan.so", "libubsan.so"):
        found = subprocess.run(
            ["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        if not Path(found).is_absolute():
            return None
        paths.append(found)
    return paths


def main(arguments: list[str]) -> int:
    """Compile, run the tests, and print what they and the sanitizers say."""
    preloaded = libraries()
    if preloaded is None:
        print("skipped: there is no gcc with libasan and libubsan here")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        copy = copied(Path(folder))
        compile_in(copy, *FLAGS)
        suppressed = copy / "suppressed"
        suppressed.write_text("".join(f"leak:{word}\n" for word in SUPPRESSED), encoding="utf-8")
        ended = run_tests(
            copy,
            *("--timeout", "900", *(arguments or TESTS)),
            LD_PRELOAD=" ".join(preloaded),
            PYTHONMALLOC="malloc",
            ASAN_OPTIONS="detect_leaks=1",
            LSAN_OPTIONS=f"suppressions={suppressed}:print_suppressions=0",
            UBSAN_OPTIONS="print_stacktrace=1",
            TOFU_CORE_EXAMPLES="300",
        )
    print(ended.stdout, ended.stderr, sep="\n")
    return ended.returncode or any(words in ended.stdout + ended.stderr for words in FOUND)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
