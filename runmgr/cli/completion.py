"""``runmgr completion``: the shell's own completion, by click."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from runmgr.exceptions import UserError

__all__ = ("command",)


@click.command("completion")
@click.argument("shell", metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> int:
    """Print the code that completes commands and options in SHELL: bash, zsh or fish.

    \b
    bash: eval "$(runmgr completion bash)"      in ~/.bashrc
    zsh:  eval "$(runmgr completion zsh)"       in ~/.zshrc
    fish: runmgr completion fish | source       in ~/.config/fish/config.fish
    """  # noqa: D301  \b is click's
    kind = get_completion_class(shell)
    assert kind is not None
    group = click.get_current_context().find_root().command
    try:
        print(kind(group, {}, "runmgr", "_RUNMGR_COMPLETE").source())
    except (OSError, RuntimeError) as error:  # bash is asked for its version
        raise UserError(f"completion {shell}: {error}") from error
    return 0
