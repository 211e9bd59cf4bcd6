"""The only words that both planes share: objects, events, documents, reports and pure rules over them.

Owns: the shape of everything that is stored, sent or shown.  Imports: nothing of ours.
Comes from: manifests, rows, worker reports.  Goes to: every other room.  Never: does I/O outside ``kits``.
"""
