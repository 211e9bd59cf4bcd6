"""The door for requests: which module, which route, may it be called, and what is said when not.

Owns: the snapshot, matching, the dispatcher, instances in service.  Imports: runtime, telemetry, schemas.
Comes from: uvicorn (requests), `dataplane.agent` (install, remove).  Goes to: modules' own ASGI apps.
Never: changes a live application, awaits anything of the control plane's.
"""
