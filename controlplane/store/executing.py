"""Runs the store's statements straight on the driver: compiled once, without SQLAlchemy's work for each run.

SQLAlchemy spends about 0.1 ms on a statement that SQLite answers in 0.01; a commit has ten of them.  So a
statement that is a constant of this room is compiled to text once for each database, and handed to the driver's
cursor of the same connection and transaction.  What always holds: failures leave as SQLAlchemy's exceptions, and
a connection that was lost is marked so, exactly as if SQLAlchemy had run the statement.

Called by `controlplane.store.readings` and `ledgers`.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Dialect, Executable, Table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import ClauseElement, visitors
from sqlalchemy.sql.compiler import SQLCompiler

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A statement as one driver wants it."""

    text: str
    order: tuple[str, ...] | None
    """The names of positional parameters; None: the driver takes names."""
    constants: Values
    """What the statement itself sets, such as the OFFSET beside a LIMIT."""

    def bound(self, values: Values) -> Any:
        if self.constants:
            values = {**self.constants, **values}
        return values if self.order is None else [values[name] for name in self.order]


_prepared: Final[dict[tuple[str, Executable], _Prepared | None]] = {}
"""By driver and statement; None: only SQLAlchemy can run it (it has lists to expand)."""


def rows(connection: Connection, statement: Executable, asked: Values) -> list[Any]:
    """Every row of a query."""
    prepared = _prepare(connection.dialect, statement)
    if prepared is None:
        return [*connection.execute(statement, asked)]
    found, _ = _run(connection, prepared, [asked], fetch=True)
    return found


def write(connection: Connection, statement: Executable, values: Sequence[Values]) -> int:
    """Run a statement once for each of ``values``; how many rows were hit in all."""
    prepared = _prepare(connection.dialect, statement)
    if prepared is None:
        return connection.execute(statement, [*values]).rowcount
    return _run(connection, prepared, values, fetch=False)[1]


@functools.cache
def tables(statement: Executable) -> frozenset[Table]:
    """The tables that a constant query names."""
    assert isinstance(statement, ClauseElement)
    return frozenset(found for found in visitors.iterate(statement) if isinstance(found, Table))


def _prepare(dialect: Dialect, statement: Executable) -> _Prepared | None:
    key = (dialect.driver, statement)
    if key not in _prepared:
        assert isinstance(statement, ClauseElement)
        compiled = statement.compile(dialect=dialect)
        assert isinstance(compiled, SQLCompiler)
        order = None if compiled.positiontup is None else tuple(compiled.positiontup)
        constants = {name: value for name, value in compiled.params.items() if value is not None}
        _prepared[key] = None if compiled.post_compile_params else _Prepared(str(compiled), order, constants)
    return _prepared[key]


def _run(
    connection: Connection, prepared: _Prepared, values: Sequence[Values], *, fetch: bool
) -> tuple[list[Any], int]:
    cursor = connection.connection.cursor()
    try:
        if len(values) == 1:
            cursor.execute(prepared.text, prepared.bound(values[0]))
        else:
            cursor.executemany(prepared.text, [prepared.bound(row) for row in values])
        return (list(cursor.fetchall()) if fetch else []), cursor.rowcount
    except connection.dialect.loaded_dbapi.Error as error:
        raise _failure(connection, prepared, error, cursor) from error
    finally:
        cursor.close()


def _failure(connection: Connection, prepared: _Prepared, error: Exception, cursor: Any) -> BaseException:
    dialect = connection.dialect
    raw = connection.connection.dbapi_connection
    lost = dialect.is_disconnect(error, raw, cursor)  # type: ignore[arg-type]
    if lost:
        connection.invalidate(error)
    return DBAPIError.instance(
        prepared.text, None, error, dialect.loaded_dbapi.Error, connection_invalidated=lost, dialect=dialect
    )
