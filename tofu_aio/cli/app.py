"""The ``tofu`` command: its subcommands, and how their errors become exit codes and messages."""

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
from .errors import Failure, describe, print_error
from .ping import ping
from .receive import receive
from .request import request
from .running import Terminated
from .send import send
from .serve import serve
from .top import top

_ABOUT: Final = f"tofu {__version__} (tofu_aio on Python {sys.version.partition(' ')[0]})"


class _CommandFailed(click.ClickException):
    """A command failed, or was interrupted; ``run`` prints one line about it."""

    def __init__(self, context: click.Context, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.path = " ".join(filter(None, (context.command_path, context.invoked_subcommand)))
        self.code = exit_code


class _Commands(click.Group):
    """A group whose commands raise ``_CommandFailed`` for the errors that users can expect."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        """Return the names in the order in which a new user needs the commands."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> object:
        """Run the subcommand."""
        try:
            result: object = super().invoke(ctx)
        except Terminated as error:
            number = signal.Signals(error.args[0])
            raise _CommandFailed(ctx, f"terminated by {number.name}", 128 + number) from error
        except KeyboardInterrupt as error:
            raise _CommandFailed(ctx, "interrupted", 128 + signal.SIGINT) from error
        except BrokenPipeError:
            raise  # the reader of the output has closed it; `run` ends without a message
        except (Failure, TofuError, OSError) as error:
            raise _CommandFailed(ctx, describe(error)) from error
        return result


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message=_ABOUT)
@click.pass_context
def tofu(context: click.Context) -> None:
    """Send peer-to-peer messages over TCP, Unix sockets and NATS, in bounded memory.

    \b
    Try it out:              tofu demo
    Check this machine:      tofu doctor
    Measure round trips:     tofu serve tcp://127.0.0.1:7000
                             tofu ping tcp://127.0.0.1:7000
    Call a service:          tofu request tcp://127.0.0.1:7000 NAME -d '{"a": 1}'
    Watch a service:         tofu top tcp://127.0.0.1:7000
    Copy a file:             tofu receive tcp://*:7000 -o copy.iso
                             tofu send image.iso tcp://host:7000
    Read captured frames:    tofu decode capture.bin

    An address is tcp://host:port, uds:///path, uds://@name (Linux abstract
    socket), or nats://broker/service. Use 'tofu COMMAND --help' for help on a command.

    \b
    Exit codes:  0    success
                 1    failure; a line on stderr gives the reason
                 2    invalid command line
                 129  terminated by SIGHUP
                 130  interrupted by Ctrl-C, unless this is the normal way to stop
                 143  terminated by SIGTERM
    """  # noqa: D301 - \b tells click not to rewrap the paragraph
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
        context.exit(2)


for _command in (
    demo,
    serve,
    ping,
    request,
    top,
    receive,
    send,
    decode,
    doctor,
    demo_server,
    demo_client,
):
    tofu.add_command(_command)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code. Errors are printed as one line on stderr.

    Args:
        arguments: the arguments after the program's name; None takes them from ``sys.argv``.
    """
    try:
        code: int | None = tofu.main(arguments, prog_name="tofu", standalone_mode=False)
        _flush()
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx is not None else "tofu"
        message = error.format_message().rstrip(".")
        end = "" if message.endswith("?") else "."
        return _fail(path, f"{message}{end} Try '{path} --help'.", error.exit_code)
    except _CommandFailed as error:
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
    print_error(command, text)
    return exit_code


def _flush() -> None:
    stdout: TextIO | None = sys.stdout
    if stdout is not None:  # None if the caller has closed it
        stdout.flush()


def _drop_output() -> None:
    """Discard buffered output, so that the flush at exit cannot fail and print a second error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
