"""``modplane dev``: modules straight from their folder, under the real loader, reloaded on save.

The command becomes ``python -m dataplane dev``: serving is the data plane's work.  No server is needed.
"""

from pathlib import Path

import click

from controlplane.cli import exits, options, planes


@click.command(
    "dev",
    short_help="Serve modules from their folder, reloading on save",
    cls=options.Verb,
    examples=("modplane dev modules/pricing", "modplane dev modules --port 0", "modplane dev pricing.py --no-auth"),
)
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=8000, show_default=True, help="Port; 0 picks a free one."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--no-auth", is_flag=True, help="Let anybody call every route, also those that need a token.")
def command(path: Path, port: int, host: str, no_auth: bool) -> None:
    """Serve one module, or a folder of them, at the address it will have, and reload what is saved.

    PATH is a module's folder or file, or a folder of modules.  No control plane and no NATS are needed.  An error
    is shown with its file and line, and the last good version goes on serving.
    """
    if not path.exists():
        raise exits.no(f"{path}: no such file or folder", hint="Make a module with `modplane new module NAME`.")
    more = ("--no-auth",) if no_auth else ()
    planes.become("dataplane", "dev", (str(path), "--host", host, "--port", str(port), *more))
