"""Where manifests come from besides people: folders of modules, and rows edited in the database.

Owns: packing sources into the code store, scanning the modules path, deriving manifests, applying row edits.
Imports: writing, admission, store, errors, schemas.  Comes from: disk, the database, `controlplane.api` by a port.
Goes to: `controlplane.writing`, under the managers modplane-discovery and sql.  Never: forces, or imports a module.
"""
