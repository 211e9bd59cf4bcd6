"""One loaded module: its code, its routes, its life.

Owns: import under mangled names, building a fresh application, lifespan, unloading.  Imports: sdk, schemas, FastAPI.
Comes from: `dataplane.agent` (build), `dataplane.gateway` (start, call, stop), `dataplane.inspection`.
Goes to: module authors' code.  Never: changes a live application.
"""
