"""``modplane new module NAME``: a module that works, with its manifest and its test.

Written whole or not at all; nothing that is there is ever overwritten.
"""

import keyword
import shutil
import sys
import tempfile
from pathlib import Path

import click

from controlplane.admission import naming
from controlplane.cli import exits, options, printing, templates
from schemas import names


@click.command(
    "new",
    short_help="Write a new module that works",
    cls=options.Verb,
    examples=("modplane new module price-watch", "modplane new module price-watch --dir src/modules"),
)
@click.argument("what", type=click.Choice(["module"]))
@click.argument("name")
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="MODPLANE_MODULES_PATH",
    default="modules",
    show_default=True,
    help="Folder of modules to write it into; `modplane up` looks there.",
)
def command(what: str, name: str, folder: Path) -> None:
    """Write a module: its package with routes, its manifest, its test and a few lines on how to go on."""
    words = _words(name)
    place = folder / words.source
    for taken in (place, place.with_suffix(".py")):
        if taken.exists():
            raise exits.no(f"{taken} is there already; nothing was written", hint="Choose another name, or --dir.")
    _write(place, templates.files(words, modeline=printing.modeline("Module")))
    printing.show(f"{place} written")
    printing.show(f"\n  modplane dev {place}\n  pytest {place}\n  modplane apply -f {place / 'module.yaml'} --wait")


def _words(given: str) -> templates.Words:
    name = names.object_name(given)
    fault = naming.name_fault(name)
    if fault is not None:
        raise exits.usage(f"the name {fault}")
    source = names.module_id(name)
    if not source.isidentifier() or keyword.iskeyword(source):
        raise exits.usage(f"{source!r} cannot be a Python package; begin with a letter and use no Python keyword")
    if source in sys.stdlib_module_names:
        raise exits.usage(f"{source!r} is a package of Python itself, which the module could no longer import")
    if name in names.RESERVED_NAMESPACES:
        raise exits.usage(f"the namespace {name!r} is reserved; choose another name")
    return templates.Words(name, source)


def _write(place: Path, files: dict[str, str]) -> None:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
        try:
            for path, text in files.items():
                target = building / path
                target.parent.mkdir(exist_ok=True)
                target.write_text(text)
            building.chmod(0o755)
            building.rename(place)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise
    except OSError as error:
        raise exits.no(
            f"{place}: cannot be written: {error.strerror}", hint="Choose another folder with --dir."
        ) from error
