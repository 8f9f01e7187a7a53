"""Takes videos in: sources -> files -> clips and round-0 texts, or rejected rows with their reason."""

from flywheel.ingest.intake import IngestResult, SourcesError, ingest

__all__ = ["IngestResult", "SourcesError", "ingest"]
