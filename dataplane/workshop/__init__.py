"""An author's workshop: modules straight from their folder, under the real loader and the real gateway.

Owns: finding sources and manifests, reloading on save, `modplane dev`.  Imports: runtime, inspection, gateway, schemas.
Comes from: `modplane dev`, `dataplane.testing`.  Goes to: the gateway.  Never: NATS, the control plane's code.
"""
