"""The door for decisions: follows desired state, applies it, reports what is really served.

Owns: one thread with its own loop, the held set, loading and retrying.  Imports: gateway, runtime, schemas.
Comes from: NATS.  Goes to: `dataplane.gateway.hosting` on the serving loop, and back to NATS.
Never: deletes a route because something is absent, or runs a request.
"""
