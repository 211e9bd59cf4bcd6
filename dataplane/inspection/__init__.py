"""A warm process that imports modules' code in throw-away children and tells what it is.

Owns: ``python -m dataplane inspect``.  Imports: runtime, sdk, schemas.
Comes from: the control plane, over a pipe.  Goes to: authors' code, in a child per request.
Never: imports an author's code in its own process.
"""
