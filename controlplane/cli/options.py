"""Options that several verbs share, and how their values are read."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from controlplane.cli import endpoints, exits

Function = TypeVar("Function", bound=Callable[..., Any])

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)?")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class Verb(click.Command):
    """A command whose help ends with examples; each is a command line that works."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The examples, as they are typed."""
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write(f"{'':>{formatter.current_indent}}{example}\n")


class Duration(click.ParamType[float]):
    """``30``, ``30s``, ``500ms``, ``2m``, ``1m30s``: seconds as a float."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        if isinstance(value, int | float):
            return float(value)
        parts = list(_DURATION.finditer(value))
        if not parts or "".join(part.group(0) for part in parts) != value:
            self.fail(f"{value!r} is not a duration; write it like 30s, 2m or 1m30s", param, ctx)
        return sum(float(part.group(1)) * _UNITS[part.group(2) or "s"] for part in parts)


GIVEN: Final = "modplane.given"
"""Under which name the context of a command keeps what ``--token`` said."""
CA_FILE: Final = "modplane.ca_file"
"""And what ``--ca-file`` said."""


def _keep_token(context: click.Context, _: click.Parameter, value: str | None) -> None:
    context.meta[GIVEN] = value


def _keep_ca_file(context: click.Context, _: click.Parameter, value: str | None) -> None:
    context.meta[CA_FILE] = value


def server(function: Function) -> Function:
    """How a client finds the control plane, knows it, and is let in."""
    function = click.option(
        "--ca-file",
        envvar="MODPLANE_CA_FILE",
        metavar="FILE",
        expose_value=False,
        callback=_keep_ca_file,
        help="Whom its certificate has to be from (PEM); default: the authority of the `modplane up` on the data "
        "folder, or those that this machine trusts.",
    )(function)
    function = click.option(
        "--token",
        envvar="MODPLANE_TOKEN",
        metavar="TOKEN",
        expose_value=False,
        callback=_keep_token,
        help="Who you are; default: the token file of the `modplane up` on the data folder.",
    )(function)
    function = click.option(
        "--data-dir",
        type=click.Path(path_type=Path),
        envvar="MODPLANE_DATA_DIR",
        default=endpoints.DATA_DIR,
        show_default=True,
        help="Data folder of a running `modplane up`; its endpoints.json names the server.",
    )(function)
    return click.option(
        "--server",
        envvar="MODPLANE_SERVER",
        metavar="URL",
        help="Control plane to talk to, for example https://127.0.0.1:7400.",
    )(function)


def timeout(default: str) -> Callable[[Function], Function]:
    """``--timeout``."""
    return click.option(
        "--timeout", type=Duration(), default=default, show_default=True, help="How long to wait, such as 30s or 2m."
    )


def files(function: Function) -> Function:
    """``-f``: manifests."""
    function = click.option("-R", "--recursive", is_flag=True, help="Read folders with all folders below them.")(
        function
    )
    return click.option(
        "-f",
        "--filename",
        "filenames",
        multiple=True,
        metavar="FILE|DIR|-",
        help="Manifest, folder of manifests, or - for standard input; may be given several times.",
    )(function)


def selector(function: Function) -> Function:
    """``-l``: labels."""
    return click.option("-l", "--selector", metavar="LABELS", help="Only objects with these labels: a=b,c!=d,e,!f.")(
        function
    )


def wanted(words: tuple[str, ...]) -> list[tuple[str, str | None]]:
    """``modules a b``, ``module/a flag/b`` or ``modules`` as (plural, name or None) pairs, in order.

    A module id with underscores stands for its name with hyphens.

    Raises `exits.Exit` with code 2 when a kind is unknown or the forms are mixed.
    """
    if not words:
        raise exits.usage("name a kind, for example: modplane get modules")
    from schemas.names import object_name  # late, as below

    if any("/" in word for word in words):
        if not all("/" in word for word in words):
            raise exits.usage("write either KIND NAME... or KIND/NAME..., not both")
        return [(plural(kind), object_name(name)) for kind, _, name in (word.partition("/") for word in words)]
    kinds, names = words[0], words[1:]
    if not names:
        return [(plural(kind), None) for kind in kinds.split(",")]
    return [(plural(kinds), object_name(name)) for name in names]


def plural(word: str) -> str:
    """The plural of a kind that a person may abbreviate."""
    from schemas import kinds  # late: the models cost more to import than most commands to run

    kind = kinds.find(word)
    if kind is None:
        from difflib import get_close_matches

        close = get_close_matches(word.lower(), kinds.words(), n=1)
        known = ", ".join(each.plural for each in kinds.KINDS)
        raise exits.usage(
            f"unknown kind {word!r}" + (f"; did you mean {close[0]!r}?" if close else ""), hint=f"Kinds: {known}"
        )
    return kind.plural
