"""Brings a database's schema up to date, with the Alembic scripts in `controlplane.store.migrations`.

What always holds: all of an upgrade happens in the caller's one transaction (both databases take DDL back), so a
failed one leaves nothing behind; a database that is up to date does not load Alembic at all.  Called by
`controlplane.store.opening`.
"""

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect, text

from controlplane import errors

HEAD: Final = "0004"
"""The schema that this code works on; a test holds it equal to the newest script."""

VERSION_TABLE: Final = "modplane_schema"
"""Where the database keeps its schema's number; our own name, so that other users of Alembic do not meet it."""

SCRIPTS: Final = Path(__file__).parent / "migrations"


def current(connection: Connection) -> str | None:
    """The number of a database's schema; None: it is empty."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608 (our constant)


def upgrade(connection: Connection, place: str) -> None:
    """Run the scripts that a database lacks.  errors.StoreUnusable: it is newer than this program."""
    stands = current(connection)
    if stands == HEAD:
        return
    # Alembic costs a tenth of a second to import, and a start that migrates nothing does not need it.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if stands is not None and stands not in known:
        raise errors.StoreUnusable(
            f"the database {place} was written by a newer modplane (schema {stands}, this one knows {HEAD});"
            " install that version again, or restore a backup from before the upgrade"
        )
    command.upgrade(config, HEAD)
