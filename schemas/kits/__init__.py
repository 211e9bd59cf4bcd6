"""Small tools that know nothing of modules: clock, back-off, tasks, the NATS link.

Owns: time, waiting, background tasks, one lasting connection.  Imports: nothing of ours.
Comes from: every room.  Goes to: asyncio, NATS.  Never: knows what a module is.
"""
