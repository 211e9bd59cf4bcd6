"""A soak: a platform of real processes lives through random people and random faults, and every answer is checked.

``make soak`` runs it for thirty minutes; ``MINUTES=2`` is shorter, ``SEED=`` repeats the dice of another run.
"""
