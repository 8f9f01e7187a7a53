"""How good speech sounds by DNSMOS (:mod:`flywheel.curation.speech`), of the clips that were measured so."""

from __future__ import annotations

import polars as pl

from flywheel.curation.columns._source import Source, of_standing
from flywheel.store.view import View


def read(view: View) -> pl.DataFrame:
    """``dnsmos_signal``, ``dnsmos_background`` and ``dnsmos_overall``, each clip's newest; about 1 (bad) to 5."""
    return of_standing(view, view.records.read("speech_quality")).drop("id", "model")


SOURCE = Source(read=read)
