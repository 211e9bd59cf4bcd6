"""Small tools that know nothing of modules: clock, back-off, tasks, settings, logs, NATS.

Owns: time, waiting, background tasks, options, log set-up, one lasting connection, buckets.  Imports: nothing of ours.
Comes from: every room.  Goes to: asyncio, NATS.  Never: knows what a module is.
"""
