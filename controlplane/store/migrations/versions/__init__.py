"""One script for each step of the schema, ``r<number>_<what>.py``.

Owns: its step.  Imports: alembic and sqlalchemy only.
Comes from: controlplane.store.migrations.env.  Goes to: the database.  Never: imports today's tables.
"""
