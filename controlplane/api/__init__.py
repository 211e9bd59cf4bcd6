"""The door for programs: resources in Kubernetes grammar, watch, management, probes.

Owns: HTTP, wire formats, what callers are told.  Imports: writing, admission, store, schemas.
Comes from: kubectl, the command line, scripts.  Goes to: `controlplane.writing`, the store.  Never: decides a state.
"""
