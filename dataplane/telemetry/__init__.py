"""What a worker measures of itself: calls of routes, spans, its own health as numbers.

Owns: recorders, what is exported of them, and how it is rendered.  Imports: schemas.
Comes from: `dataplane.gateway` (requests), `dataplane.runtime` and `dataplane.sdk` (modules).
Goes to: `dataplane.agent`, which tells the control plane, and to whoever scrapes or collects.
Never: delays a request, or lets a caller's words become a label.
"""
