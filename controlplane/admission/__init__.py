"""What may come in, and what it means: reading, defaulting, validating, owning, comparing manifests.

Owns: the limits and rules of every document.  Imports: schemas only.  Pure: no I/O, no clock of its own.
Comes from: files, request bodies, rows.  Goes to: the write path, the command line.  Never: stores, never sleeps.
"""
