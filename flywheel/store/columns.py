"""Columns of each kind of record, and how shards of older versions are mended when they are read."""

from __future__ import annotations

import polars as pl

_F, _I, _S, _B = pl.Float64, pl.Int64, pl.String, pl.Boolean
#: Of columns that all clips have at once in memory.
_F32 = pl.Float32

#: kind -> columns. The first column is the key.
SCHEMAS: dict[str, dict[str, pl.DataType | type[pl.DataType]]] = {
    "clips": {
        "id": _S,
        "uri": _S,
        "content_hash": _S,
        "start_s": _F,
        "end_s": _F,
        "fps": _F,
        "width": _I,
        "height": _I,
        "has_audio": _B,
        "transcript": _S,
        "sounds": _S,
        "split": _S,
        "cues": pl.List(pl.Struct({"start_s": _F, "end_s": _F, "text": _S})),
    },
    "generations": {
        "id": _S,
        "clip_id": _S,
        "prompt": _S,
        "model": _S,
        "adapter": _S,
        "sampling": _S,
        "candidate": _I,
        "text": _S,
        "token_ids": pl.List(pl.Int32),
        "logprobs": pl.List(pl.Float32),
        "tokens_in": _I,
        "tokens_out": _I,
        "seconds": _F,
        "finish": _S,
    },
    "annotations": {
        "id": _S,
        "round": _I,
        "kind": _S,
        "clip_id": _S,
        "generation_id": _S,
        "source": _S,
        "text": _S,
        "mean_logprob": _F,
        "payload": _S,
        "purpose": _S,
    },
    "rejected": {
        "id": _S,
        "round": _I,
        "uri": _S,
        "clip_id": _S,
        "stage": _S,
        "reason": _S,
        "at": _S,
        "kind": _S,
        "purpose": _S,
        # Of what ingest rejected: what names the video (a table, a tar, a URL, the file itself), and the span that it
        # asks for. Null times: none is named.
        "source": _S,
        "start_s": _F,
        "end_s": _F,
    },
    #: Rejects that a person closed; ``id`` is the reject's.
    "dismissals": {"id": _S, "clip_id": _S, "reason": _S, "at": _S},
    #: The streams of a clip's file, as JSON, where there was something to choose; ``id`` is the clip.
    "tracks": {"id": _S, "clip_id": _S, "tracks": _S},
    #: Words that came after their clip; of a clip's the last stand. ``id`` is clip, number and words.
    "transcripts": {
        "id": _S,
        "clip_id": _S,
        "transcript": _S,
        "cues": pl.List(pl.Struct({"start_s": _F, "end_s": _F, "text": _S})),
    },
    #: What a recogniser of speech made of a file's sound, or of a part of it; ``source`` names the model. Words have
    #: the blank before them, where their language has one. ``id`` hashes content, model and what it was asked.
    "recognitions": {
        "id": _S,
        "content_hash": _S,
        "source": _S,
        "start_s": _F,
        "end_s": _F,
        "track": _S,
        "language": _S,
        "language_probability": _F,
        "speech_s": _F,
        "cues": pl.List(
            pl.Struct(
                {
                    "start_s": _F,
                    "end_s": _F,
                    "text": _S,
                    "mean_logprob": _F,
                    "no_speech": _F,
                    "words": pl.List(pl.Struct({"start_s": _F, "end_s": _F, "text": _S, "probability": _F})),
                }
            )
        ),
    },
    #: A clip's part of its file's recognition, empty where nobody speaks; of a clip's the last stands, and only where
    #: people gave no words. ``id`` hashes the clip, the model and what it was asked.
    "asr_transcripts": {
        "id": _S,
        "clip_id": _S,
        "source": _S,
        "language": _S,
        "transcript": _S,
        "cues": pl.List(pl.Struct({"start_s": _F, "end_s": _F, "text": _S})),
    },
    #: A clip as a model's point; ``id`` is clip and model.
    "embeddings": {"id": _S, "clip_id": _S, "model": _S, "vector": pl.List(pl.Float32)},
    #: What a stage trained on, or was told not to say: ``use`` is "learned" or "rejected",
    #: or "preferred" of a pair's better text, whose worse one is "rejected"; ``corrections`` may be ids of choices.
    "examples": {
        "id": _S,
        "round": _I,
        "stage": _S,
        "clip_id": _S,
        "annotation_id": _S,
        "source": _S,
        "use": _S,
        "weight": _F,
        "text_hash": _S,
        "corrections": pl.List(_S),
    },
    #: What a judge said of a clip's seen and heard texts; of a clip's the last stands. Scores and reasons are in the
    #: order of CRITERIA, and empty of a clip that is unscored, for the reason ``unscored``; ``sources`` is JSON.
    "judgements": {
        "id": _S,
        "round": _I,
        "clip_id": _S,
        "seen_id": _S,
        "heard_id": _S,
        "generation_id": _S,
        "swapped": _B,
        "scores": pl.List(_I),
        "reasons": pl.List(_S),
        "sources": _S,
        "unscored": _S,
    },
    #: Judgements that are no clip's own word, by ``purpose``: ``repeated`` with other sampling, or ``shuffled``, of
    #: what is seen with what is heard in the clip ``other_id``.
    "control_judgements": {
        "id": _S,
        "round": _I,
        "clip_id": _S,
        "other_id": _S,
        "purpose": _S,
        "generation_id": _S,
        "scores": pl.List(_I),
        "unscored": _S,
    },
    #: The clips that calibrate a judge, each with the clip of another video whose sound it is judged with.
    "twins": {"id": _S, "clip_id": _S, "other_id": _S},
    #: P(match) of a run of curation, of the clips that were judged; ``id`` is run and clip.
    "match_probabilities": {"id": _S, "clip_id": _S, "run": _S, "p_match": _F32},
    #: A clip's picture, sound or text as a point of an encoder (``model``), in half precision; ``of`` is a text's
    #: hash, or an edited sound's version. Of a clip's the last stands. ``id`` is model, modality and clip, and where
    #: it can have others ``of`` and their number.
    "vectors": {"id": _S, "clip_id": _S, "model": _S, "modality": _S, "of": _S, "vector": pl.Binary},
    "noise_signals": {"id": _S, "round": _I, "annotation_id": _S, "origin": _S, "value": _F},
    #: What a clip's sound tells beside its picture (:mod:`flywheel.sound`); ``id`` is clip and version of the measures.
    #: ``version`` is that of the sound, empty for the original.
    #: ``shuffled_*`` and ``shifted_*`` are of its picture with another video's sound, and with its own at a wrong time.
    "sounds": {
        "id": _S,
        "clip_id": _S,
        "doubt": _S,
        "offset_s": _F32,
        "together": _F32,
        "contrast": _F32,
        "shuffled_together": _F32,
        "shuffled_contrast": _F32,
        "shifted_together": _F32,
        "shifted_contrast": _F32,
        "level_db": _F32,
        "clipped": _F32,
        "silent": _F32,
        "band_hz": _F32,
        "floor_db": _F32,
        "damaged": _F32,
        "print_a": pl.UInt64,
        "print_b": pl.UInt64,
        "seconds": _F32,
        "version": _S,
    },
    #: What DNSMOS estimates of a clip's sound; ``id`` is the network (``model``: its digest) and the clip.
    #: ``version`` as in ``sounds``.
    "speech_quality": {
        "id": _S,
        "clip_id": _S,
        "model": _S,
        "dnsmos_signal": _F32,
        "dnsmos_background": _F32,
        "dnsmos_overall": _F32,
        "version": _S,
    },
    #: Which clips a run of curation kept; ``id`` is run and clip.
    "decisions": {"id": _S, "clip_id": _S, "run": _S, "kept": _B, "score": _F32, "reason": _S},
    #: What became of clips' sounds (:class:`flywheel.core.types.SoundVersion`); of a clip's the last stands. ``id``
    #: hashes the clip and how it was looked at, or its number where a person said so.
    "sound_versions": {
        "id": _S,
        "clip_id": _S,
        "version": _S,
        "outcome": _S,
        "reason": _S,
        "plan": _S,
        "before": _S,
        "after": _S,
        "trace": _S,
        "content_hash": _S,
        "num_bytes": _I,
        "parent": _S,
        "original": _S,
        "code": _S,
        "planner": _S,
        "speech": _S,
        "seconds": _F,
        "at": _S,
    },
    #: Videos (by content) that no round from ``from_round`` on uses, or uses again; of a video's the last stands.
    "removals": {
        "id": _S,
        "video": _S,
        "source": _S,
        "removed": _B,
        "reason": _S,
        "from_round": _I,
        "at": _S,
    },
    #: What leads said of clips; of a clip's the last stands. ``id`` is clip, number and words.
    "verdicts": {"id": _S, "clip_id": _S, "kept": _B, "reason": _S, "at": _S},
}

#: A purpose was a kind of its own before texts had one.
_WAS_MEASURED = pl.col("kind") == "evaluation"
#: kind -> what a column holds in shards that were written before there was such a column, or held something else in it.
MENDS: dict[str, dict[str, pl.Expr]] = {
    "sounds": {"version": pl.col("version").fill_null("")},
    "speech_quality": {"version": pl.col("version").fill_null("")},
    "clips": {"cues": pl.col("cues").fill_null(pl.lit([], dtype=SCHEMAS["clips"]["cues"]))},
    "annotations": {
        "payload": pl.col("payload").fill_null(""),
        "kind": pl.when(_WAS_MEASURED).then(pl.lit("caption")).otherwise("kind"),
        "purpose": pl.col("purpose").fill_null(
            pl.when(_WAS_MEASURED).then(pl.lit("measure")).otherwise(pl.lit("learn"))
        ),
    },
    "rejected": {
        "source": pl.col("source").fill_null(""),
        "kind": pl.when(_WAS_MEASURED)
        .then(pl.lit("caption"))
        .otherwise(
            pl.col("kind").fill_null(
                pl.when(pl.col("stage") == "annotate").then(pl.lit("caption")).otherwise(pl.lit(""))
            )
        ),
        "purpose": pl.col("purpose").fill_null(
            pl.when(pl.col("stage") != "annotate")
            .then(pl.lit(""))
            .otherwise(pl.when(_WAS_MEASURED).then(pl.lit("measure")).otherwise(pl.lit("learn")))
        ),
    },
}

BY_ROUND = {"annotations", "rejected", "noise_signals", "examples", "judgements", "control_judgements"}


def key_column(kind: str) -> str:
    """Name of the column that holds a row's key."""
    return next(iter(SCHEMAS[kind]))
