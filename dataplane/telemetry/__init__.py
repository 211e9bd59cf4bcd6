"""What a worker says about itself while it runs.

Owns: log set-up.  Imports: structlog.
Comes from: `dataplane.app`.  Goes to: standard error.  Never: writes to standard output (the ready line's).
"""
