"""The audit trail as it is kept: every writer's chain of records in a database of its own, signed, and walked along.

Owns: the file ``DATA_DIR/audit.db``, the checkpoints under its chains, and the records of administrative changes.
Imports: schemas.  Comes from: `controlplane.api` (changes), `controlplane.messaging` (what workers send).
Goes to: `controlplane.api`, for those who ask.  Never: takes a record that does not follow on the one before, silently.
"""
