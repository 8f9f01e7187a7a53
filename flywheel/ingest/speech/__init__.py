"""Speech to timed cues, for clips that have no words; each file is listened to once."""

from flywheel.ingest.speech.counts import TranscribeResult
from flywheel.ingest.speech.run import plan, transcribe

__all__ = ["TranscribeResult", "plan", "transcribe"]
