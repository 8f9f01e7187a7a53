"""DNSMOS' estimates of clips' sounds, made once and kept; its network is a file that the configuration names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from flywheel.core.border import one_item
from flywheel.core.errors import MediaError
from flywheel.core.progress import progress, say
from flywheel.core.types import Clip, content_id
from flywheel.curation.evidence import span
from flywheel.curation.repair.standing import StandingSounds
from flywheel.media.audio import read_audio
from flywheel.sound.dnsmos import RATE_HZ, Dnsmos, installed
from flywheel.store import Workspace

#: Clips that are measured together, and committed.
_TOGETHER = 64
#: Clips whose records are looked up at once.
_LOOKUP = 4096


def network_of(workspace: Workspace) -> Dnsmos | None:
    """The network that ``curate.dnsmos`` names, None without one; said where ONNX Runtime is missing.

    Raises UserError for a file that is missing or no such network.
    """
    name = workspace.config.curate.dnsmos
    if not name:
        return None
    if not installed():
        say("curate.dnsmos: its columns are left out, since onnxruntime is missing: pip install 'flywheel[dnsmos]'.")
        return None
    return Dnsmos(workspace.root / Path(name).expanduser())


def measure_speech(
    workspace: Workspace, clips: Iterable[Clip], network: Dnsmos | None, limit: int | None = None
) -> None:
    """Estimate the clips that have sound and no estimate by this network; the caller holds the lock.

    Clips that can't be read have none, and are tried again the next time.
    """
    if network is None:
        return
    sounds = StandingSounds(workspace)
    waiting, failed = islice(_unmeasured(workspace, clips, network, sounds), limit), 0
    with progress("curate: speech", limit) as bar, ThreadPoolExecutor(workspace.config.curate.decoders) as pool:
        while group := list(islice(waiting, _TOGETHER)):
            rows = [row for row in pool.map(partial(_row, workspace, network, sounds), group) if row is not None]
            failed += len(group) - len(rows)
            workspace.add_speech_quality(rows)
            bar.advance(len(group))
    if failed:
        say(f"curate: speech: {failed} clips have no estimate, since they can't be read")


def _unmeasured(workspace: Workspace, clips: Iterable[Clip], network: Dnsmos, sounds: StandingSounds) -> Iterator[Clip]:
    audible = (clip for clip in clips if clip.has_audio)
    while some := list(islice(audible, _LOOKUP)):
        ids = {clip.id: _record_id(network, clip, sounds.version(clip)) for clip in some}
        known = workspace.records.known("speech_quality", ids.values())
        new = [clip for clip in some if ids[clip.id] not in known]
        workspace.originals.expect(clip.content_hash for clip in new)
        yield from new


def _record_id(network: Dnsmos, clip: Clip, version: str) -> str:
    # 2: the windows are those of the authors' script.
    return content_id("dnsmos", 2, network.digest, clip.id, *([version] if version else []))


def _row(workspace: Workspace, network: Dnsmos, sounds: StandingSounds, clip: Clip) -> dict[str, Any] | None:
    """A clip's record; None where its sound can't be read."""
    (start_s, end_s), source = span(clip), sounds.of(clip)
    before_s = clip.start_s - source.start_s
    try:
        with one_item():
            workspace.originals.check(str(source.path), source.content_hash)
            found = network.of(read_audio(source.path, start_s - before_s, end_s - before_s, rate_hz=RATE_HZ))
    except MediaError:
        return None
    row: dict[str, Any] = {"id": _record_id(network, clip, source.version), "clip_id": clip.id}
    row |= {"model": network.digest, "version": source.version}
    names = {"signal": float("nan"), "background": float("nan"), "overall": float("nan")} | (
        vars(found) if found else {}
    )
    return row | {f"dnsmos_{name}": value for name, value in names.items()}
