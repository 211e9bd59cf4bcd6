"""Tokens: read strictly, verified by python-jose in a box, minted for development.

Owns: what a JSON Web Token may look like, whose keys are believed, and for how long.  Imports: python-jose (only
here, and never its JWE part), cryptography, `schemas.principals`.  Comes from: `dataplane.gateway.authenticating`, the
control plane's guard, `modplane token`.  Never: knows routes, policies or modules.

`verifying` is the way in; `reading` (before any signature) → `sources` and `fetching` (whose keys) → `keys` → `claims`.
Sources: RFC 7515, 7517, 7518, 7519, 8725 and 9068.
"""
