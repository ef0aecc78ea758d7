"""`rexecutor completion`."""

from enum import StrEnum

from ..cli import new_app


class Shell(StrEnum):
    """Those that can complete the command."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(shell: Shell, /) -> None:
    """Print what lets a shell complete this command.

    It is for packagers and dotfiles; `rexecutor --install-completion` puts it in its place.
    """
    print(new_app().generate_completion(shell=shell.value))
