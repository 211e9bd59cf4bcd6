"""The loop that makes what is so as what is asked for: queue, load, decide, act; and who may run it.

Owns: Module status, claims, desired rows, the lease.  Imports: schemas, admission, store, errors.
Comes from: the store's changes, worker reports.  Goes to: the store.  Never: talks to NATS or imports a module.
"""
