"""What the platform measured: the workers' counts merged and kept, the control plane's own numbers, its spans.

Owns: the file of measurements, the registry that is scraped, the tracer.  Imports: errors, schemas.
Comes from: `controlplane.messaging` (workers), every engine (its own numbers).  Goes to: `controlplane.api`, scrapers.
Never: decides about a module, or holds up what it measures.
"""
