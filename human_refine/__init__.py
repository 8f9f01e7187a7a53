"""Corrections in and out."""

from human_refine.corrections import ImportReport, import_corrections, import_gold
from human_refine.export import export_choices, export_queue

__all__ = ["ImportReport", "export_choices", "export_queue", "import_corrections", "import_gold"]
