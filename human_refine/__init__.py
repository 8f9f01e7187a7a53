"""Corrections in and out."""

from human_refine.corrections import ImportReport, export_queue, import_corrections

__all__ = ["ImportReport", "export_queue", "import_corrections"]
