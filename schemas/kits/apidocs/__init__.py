"""The page ``/docs`` of either plane: Swagger UI as vendored, with its licence and digests, and our page around it.

Owns: the files.  Imports: nothing.  Comes from: the planes' own pages.  Never: loads anything from elsewhere.
"""
