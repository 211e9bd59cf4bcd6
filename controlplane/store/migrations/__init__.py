"""The history of the schema, as Alembic scripts.

Owns: how a database comes from one schema to the next.  Imports: alembic only, none of ours.
Comes from: controlplane.store.migrating.  Goes to: the database.  Never: changes a script that was released.
"""
