"""Runs the scripts on the connection and in the transaction that `controlplane.store.migrating` hands over."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], version_table="modplane_schema")
with context.begin_transaction():
    context.run_migrations()
