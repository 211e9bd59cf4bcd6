"""The plane that serves: loads modules and answers their requests.

Owns: the gateway, loaded modules, the worker's agent.  Imports: schemas.
Comes from: requests, and desired state on NATS.  Goes to: modules' own code.  Never: decides what should be served.
"""
