"""What the control plane says about itself.

Owns: log set-up.  Imports: nothing of ours.
Comes from: every room's logger.  Goes to: standard error.  Never: decides anything.
"""
