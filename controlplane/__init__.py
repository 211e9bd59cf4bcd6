"""The plane that decides: keeps every module as declared.

Owns: admission, the store, the loop, what is desired.  Imports: schemas.
Comes from: people, programs, rows, folders.  Goes to: NATS.  Never: serves a module's request.
"""
