"""The group of commands, and how their mistakes are told."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from runmgr import __version__
from runmgr.cli.invocation import Invocation
from runmgr.exceptions import JournalError, UserError

__all__ = ("run",)

# name -> what `runmgr --help` says of it; the command itself is imported when it is called
_COMMANDS = {
    "batch": "Run a model or an agent over a file of cases, and score the answers.",
    "compare": "Compare batches on the same cases, with intervals and tests; for CI.",
    "completion": "Print the shell code that completes commands and options.",
    "load": "Measure a model server, or whole agents, under load.",
    "models": "List the providers that are configured, and check a key and URL.",
    "plan": "Say what a batch would take, before it is paid for.",
    "provider-batches": "List or cancel what a batch has at its provider (--via-batch-api).",
    "report": "Write a batch's report.html again from its results.",
    "score": "Score a finished batch again, without running it again.",
    "show": "Show one run's transcript.",
    "sim": "Serve a simulated, OpenAI-compatible model.",
    "view": "Serve a batch's report, live while it runs.",
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        return import_module(f"runmgr.cli.{cmd_name.replace('-', '_')}").command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in _COMMANDS:
            from difflib import get_close_matches

            close = get_close_matches(args[0], _COMMANDS, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise click.UsageError(f"no command {args[0]!r}; {hint}there are {', '.join(_COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.command(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, "--version", prog_name="runmgr", message="%(prog)s %(version)s")
def _group() -> None:
    """Runs LLM agents by the thousand: supervised, accounted, resumable.

    Progress goes to stderr, data to stdout. Exit codes: 0 done; 1 more runs failed than allowed; 2 bad arguments or input;
    3 stopped by its budget; 130 interrupted.
    """


def run(argv: Sequence[str] | None = None) -> int:
    """Runs a command and gives its exit code; see `runmgr.cli.main`."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        invocation = Invocation(words, own_process=argv is None)
        result: Any = _group.main(args=words, prog_name="runmgr", standalone_mode=False, obj=invocation)
    except click.UsageError as error:
        if error.ctx is not None and isinstance(error, click.exceptions.NoArgsIsHelpError):
            click.echo(error.format_message(), err=True)
            return 2
        _complain(_one_line(error), see=error.ctx.command_path if error.ctx is not None else "runmgr")
        return 2
    except click.ClickException as error:
        _complain(error.format_message())
        return 2
    except (UserError, JournalError) as error:
        _complain(str(error))
        return 2
    except (click.Abort, KeyboardInterrupt):
        print("runmgr: interrupted", file=sys.stderr)
        return 130
    except BaseExceptionGroup as group:  # where a task of trio's was the one that was interrupted
        if group.split(KeyboardInterrupt)[1] is not None:
            raise
        print("runmgr: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read our stdout is gone, e.g. `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return result if isinstance(result, int) else 0


def _one_line(error: click.UsageError) -> str:
    text = " ".join(error.format_message().split())
    if isinstance(error, click.NoSuchOption) and error.ctx is not None:
        from runmgr.settings import ModelSettings

        setting = error.option_name.lstrip("-").replace("-", "_")
        takes = any("--set" in parameter.opts for parameter in error.ctx.command.params)
        if takes and setting in ModelSettings.__annotations__:
            text = f"no such option {error.option_name!r}; a model setting is --set {setting}=VALUE"
    return text[:1].lower() + text[1:].rstrip(".")


def _complain(message: str, *, see: str | None = None) -> None:
    from runmgr.report.text import printable

    hint = f" (see '{see} --help')" if see else ""
    print(f"runmgr: error: {printable(message)}{hint}", file=sys.stderr)
