"""The command `modplane`: its verbs, imported only when called, and the one place that ends the process.

A verb is a file of this folder with a click command ``command``.  ``modplane --help`` imports none of them: the
short help stands here, and a test keeps it equal to the verb's own.
"""

import contextlib
import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from controlplane.cli import exits

SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "Run": {
        "up": ("up", "Run the whole system on this machine"),
        "controlplane": ("planes:controlplane", "Run one control plane"),
        "worker": ("planes:worker", "Run one data-plane worker"),
        "token": ("token", "Make a token for trying things out"),
    },
    "Write modules": {
        "new": ("new", "Write a new module that works"),
        "dev": ("dev", "Serve modules from their folder, reloading on save"),
    },
    "Change": {
        "apply": ("apply", "Create or change objects from manifests"),
        "diff": ("diff", "Show what an apply would change"),
        "delete": ("delete", "Delete objects"),
        "discover": ("discover", "Scan the modules path now"),
    },
    "Look": {
        "get": ("get", "List objects, or show some"),
        "describe": ("describe", "Show one object with all that concerns it"),
        "events": ("events", "Show what happened to modules"),
        "audit": ("audit", "Show who was let in, and who changed what"),
        "logs": ("logs", "Show what a module printed and logged"),
        "top": ("top", "Show which modules or workers have most to do"),
        "trace": ("trace", "Show what a module's last change took"),
        "wait": ("wait", "Wait until objects are as you want them"),
        "validate": ("validate", "Check manifests without a server"),
        "version": ("version", "Print the version"),
    },
}
"""Section → verb → (file of this folder[:attribute], short help)."""


class Verbs(click.Group):
    """A group whose commands are imported when they are called."""

    def invoke(self, ctx: click.Context) -> Any:
        """As click does; but who reads our output and goes away has not said "no", as click takes it."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            _silence()
            raise exits.Exit(exits.INTERRUPTED) from None

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every verb."""
        return [verb for verbs in SECTIONS.values() for verb in verbs]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb of that name."""
        for verbs in SECTIONS.values():
            if cmd_name in verbs:
                file, _, attribute = verbs[cmd_name][0].partition(":")
                command: click.Command = getattr(import_module(f"controlplane.cli.{file}"), attribute or "command")
                return command
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with a suggestion for a verb that does not exist."""
        if args and not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            from difflib import get_close_matches  # late: only for a wrong verb

            close = get_close_matches(args[0], self.list_commands(ctx), n=1)
            meant = f" Did you mean '{close[0]}'?" if close else ""
            ctx.fail(f"no such command '{args[0]}'.{meant}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The verbs by section."""
        for section, verbs in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(verb, text) for verb, (_, text) in verbs.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The exit codes."""
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), meaning) for code, meaning in exits.MEANINGS.items()])


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def modplane() -> None:
    """Keep many FastAPI modules exactly as declared, behind one address."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; only errors go to stderr."""
    _read_file()
    try:
        result: Any = modplane.main(
            args=list(arguments) if arguments is not None else None, prog_name="modplane", standalone_mode=False
        )
        sys.stdout.flush()
    except exits.Exit as end:
        return _end(end)
    except click.ClickException as error:
        error.show(file=sys.stderr)
        return exits.USAGE
    except (KeyboardInterrupt, click.Abort):
        return exits.INTERRUPTED
    except BrokenPipeError:
        _silence()
        return exits.YES
    return result if isinstance(result, int) else exits.YES


def _silence() -> None:
    """The reader of our output has seen enough: nothing more may be written, also not at the interpreter's end."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _read_file() -> None:
    """Take settings from ``modplane.env`` in the working folder; the environment wins over them."""
    if os.path.exists("modplane.env"):
        from dotenv import dotenv_values  # late: most folders have no such file

        for name, value in dotenv_values("modplane.env").items():
            if name.upper().startswith("MODPLANE_") and value is not None:
                os.environ.setdefault(name.upper(), value)


def _end(end: exits.Exit) -> int:
    if end.message:
        click.echo(f"modplane: {end.message}" if end.code != exits.NO else end.message, err=True)
    if end.hint:
        click.echo(end.hint, err=True)
    return end.code


def main() -> None:
    """Entry point of the console script."""
    collect_seldom()
    sys.exit(run())


def collect_seldom() -> None:
    """What a command reads lives until it ends: looking through it for garbage, again and again, finds none."""
    gc.set_threshold(100_000, 50, 100)


if __name__ == "__main__":
    main()
