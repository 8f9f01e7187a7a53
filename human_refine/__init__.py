"""Corrections in and out."""

from human_refine.corrections import ImportReport, export_queue, import_corrections, import_gold

__all__ = ["ImportReport", "export_queue", "import_corrections", "import_gold"]
