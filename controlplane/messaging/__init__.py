"""What the store decided, told to NATS; what the workers say, told to the store.

Owns: the events stream, both buckets, the beat.  Imports: schemas, the store.
Comes from: commits, worker reports.  Goes to: NATS, Worker objects, the fleet.  Never: decides about a module.
"""
