"""Asks the data plane's inspection process what packed code is.

Owns: that process, and how many inspections run at once.  Imports: errors, schemas.
Comes from: `controlplane.reconcile`, `controlplane.discovery`.  Goes to: ``python -m dataplane inspect``.
Never: imports a module's code, or believes more of an answer than it can check.
"""
