"""The truth: every object, its changes and events, route claims, what is desired, who leads.

Owns: tables, transactions, revisions, migrations, the mirrors.  Imports: schemas, controlplane.errors.
Comes from: api, reconcile, messaging, discovery.  Goes to: the same, as records and batches.  Never: decides.
"""
