"""Where manifests come from besides people: folders of modules, and rows edited in the database.

Owns: packing sources into the code store, watching and scanning the modules path, deriving manifests, deleting what it
made and whose code is gone (within guard rails), applying row edits, and the condition SourceCurrent.
Imports: writing, admission, store, errors, schemas.  Comes from: disk, the database, `controlplane.api` by a port.
Goes to: `controlplane.writing`, under the managers modplane-discovery and sql.  Never: forces, or imports a module.
"""
