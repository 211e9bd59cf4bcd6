"""The door for hands: the command `modplane`.

Owns: commands, their output and exit codes, the supervisor of `modplane up`.  Imports: schemas, admission.
Comes from: a shell.  Goes to: the API over HTTP; for `up`, child processes.  Never: opens the store or NATS.
"""
