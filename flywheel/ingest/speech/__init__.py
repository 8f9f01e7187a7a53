"""Speech to timed cues, for clips that have no words; each file is listened to once."""

from flywheel.ingest.speech.run import TranscribeResult, plan, transcribe

__all__ = ["TranscribeResult", "plan", "transcribe"]
