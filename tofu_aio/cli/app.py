"""The ``tofu`` command: its subcommands, and what becomes of their errors."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import Final, TextIO

import click

from .. import __version__
from ..protocol.errors import TofuError
from .decode import decode
from .demo import demo
from .demo_peers import demo_client, demo_server
from .doctor import doctor
from .errors import Failure, complain, describe
from .ping import ping
from .receive import receive
from .running import Terminated
from .send import send
from .serve import serve

_ABOUT: Final = f"tofu {__version__} (tofu_aio on Python {sys.version.partition(' ')[0]})"


class _Ended(click.ClickException):
    """A command's own failure, on its way to the one line on stderr."""

    def __init__(self, context: click.Context, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.path = " ".join(filter(None, (context.command_path, context.invoked_subcommand)))
        self.code = exit_code


class _Commands(click.Group):
    """A group that turns errors into exit codes and their lines."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        """The names in the order of adding, which is that of getting to know them."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> object:
        """Run the subcommand."""
        try:
            result: object = super().invoke(ctx)
        except Terminated as error:
            raise _Ended(ctx, "told to stop", 128 + error.args[0]) from error
        except KeyboardInterrupt as error:
            raise _Ended(ctx, "interrupted", 128 + signal.SIGINT) from error
        except BrokenPipeError:
            raise  # nobody reads our output any more: run() ends quietly
        except (Failure, TofuError, OSError) as error:
            raise _Ended(ctx, describe(error)) from error
        return result


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message=_ABOUT)
@click.pass_context
def tofu(context: click.Context) -> None:
    """Peer-to-peer messages over TCP and Unix sockets, in bounded memory.

    \b
    See it work:                 tofu demo
    Check this machine:          tofu doctor
    Measure round trips:         tofu serve tcp://127.0.0.1:7000
                                 tofu ping tcp://127.0.0.1:7000
    Copy a file:                 tofu receive tcp://*:7000 -o copy.iso
                                 tofu send image.iso tcp://host:7000
    Read captured frames:        tofu decode capture.bin

    An address is tcp://host:port, uds:///path, or uds://@name (Linux abstract).
    'tofu COMMAND --help' says more.

    \b
    Exit codes:  0    done
                 1    failed; one line on stderr says why
                 2    the command line is wrong
                 130  stopped by Ctrl-C, where that is not the normal end
                      (129 and 143 likewise, by SIGHUP and SIGTERM)
    """  # noqa: D301 - \b is click's mark for lines to be left as they are
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
        context.exit(2)


for _command in (
    demo,
    serve,
    ping,
    receive,
    send,
    decode,
    doctor,
    demo_server,
    demo_client,
):
    tofu.add_command(_command)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code. All it has to complain about is one line.

    Args:
        arguments: after the program's name; None takes the process's own.
    """
    try:
        code: int | None = tofu.main(arguments, prog_name="tofu", standalone_mode=False)
        _flush()
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx is not None else "tofu"
        message = error.format_message().rstrip(".")
        end = "" if message.endswith("?") else "."
        return _fail(path, f"{message}{end} Try '{path} --help'.", error.exit_code)
    except _Ended as error:
        return _fail(error.path, error.message, error.code)
    except OSError as error:
        _drop_output()
        if isinstance(error, BrokenPipeError):
            return 1
        return _fail("tofu", f"cannot write to standard output: {describe(error)}")
    return code or 0


def _fail(command: str, text: str, exit_code: int = 1) -> int:
    try:
        _flush()
    except OSError:
        _drop_output()
    complain(command, text)
    return exit_code


def _flush() -> None:
    stdout: TextIO | None = sys.stdout
    if stdout is not None:  # it was closed before we came
        stdout.flush()


def _drop_output() -> None:
    """Let the interpreter's own last flush succeed: its error would be a second complaint."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
