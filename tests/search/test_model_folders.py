"""Real clips are indexed and searched by models' folders, by the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from flywheel.cli import app
from flywheel.core.errors import UserError
from flywheel.ingest import ingest
from flywheel.models.encoder_files import encoder_id
from flywheel.search.duplicates import duplicates
from flywheel.search.indexing import index
from flywheel.search.searching import Searcher, SearchQuery
from flywheel.store import Workspace
from flywheel.store.vectors_in_use import vectors_in_use
from tests.models.tiny_towers import tiny_clap, tiny_clip, tiny_perception


def command(workspace: Workspace, *words: str) -> Any:
    """What a command prints as JSON."""
    printed = CliRunner().invoke(app, [*words, "--json", "--config", str(workspace.root)])
    assert printed.exit_code == 0, printed.exception
    return json.loads(printed.stdout)


def refused(workspace: Workspace, *words: str) -> str:
    """The one line by which a command refuses."""
    printed = CliRunner().invoke(app, [*words, "--config", str(workspace.root)])
    assert isinstance(printed.exception, UserError), printed.exception
    assert "\n" not in str(printed.exception)
    return str(printed.exception)


def name_folder(workspace: Workspace, before: str, after: str) -> None:
    """Name another folder in flywheel.yaml."""
    file = workspace.root / "flywheel.yaml"
    line = "  folder: {}  # folder of an encoder that is there"
    assert line.format(before) in file.read_text()
    file.write_text(file.read_text().replace(line.format(before), line.format(after)))


@pytest.mark.slow
def test_real_clips_are_found_by_a_clip_and_a_clap_folder(
    real_clips: Path, tmp_path: Path, make_workspace: Callable[..., Workspace]
) -> None:
    w = make_workspace("corpus.most_unreadable=1")
    tiny_clip(w.root / "models" / "clip")
    tiny_clip(w.root / "models" / "wider", seed=1, width=40)
    tiny_clap(w.root / "models" / "clap")
    tiny_perception(w.root / "models" / "pe")
    with w.lock():
        ingest(w, [str(real_clips)])
    clips = {row["id"]: row for row in w.clips().iter_rows(named=True)}
    heard = {clip_id for clip_id, row in clips.items() if row["has_audio"]}
    assert heard
    assert heard != set(clips)

    # Pictures and words.
    name_folder(w, "''", "models/clip")
    assert command(w, "index", "--dry-run")["clips"] == len(clips)
    done = command(w, "index")
    assert (done["encoder"], done["width"], done["model"]) == ("clip", 24, encoder_id(w.root / "models" / "clip"))
    assert (done["video"], done["sound"], done["rejected"]) == (len(clips), 0, 0)
    assert command(w, "index")["video"] == 0
    found = command(w, "search", "a man talks, music", "--limit", "100")
    assert {one["clip_id"] for one in found} == set(clips)
    assert {"clip_id", "uri", "start_s", "end_s", "score"} <= set(found[0])
    assert all(set(one["by"]) <= {"video", "text"} for one in found)
    wall = next(one for one in clips.values() if Path(one["uri"]).name == "h265_video.mp4")
    assert command(w, "search", "--like", wall["uri"])[0]["uri"] == wall["uri"]
    assert len(command(w, "search", "word " * 10_000, "--limit", "3")) == 3
    assert "encoder 'clip' knows no sounds" in refused(w, "search", "--sound", wall["uri"])

    # Another folder: other vectors, and the first one's are no longer searched.
    name_folder(w, "models/clip", "models/wider")
    assert f"has no vectors of encoder {encoder_id(w.root / 'models' / 'wider')}" in refused(w, "search", "a dog")
    assert command(w, "index")["width"] == 40
    assert len(command(w, "search", "a dog", "--limit", "100")) == len(clips)

    # Sounds and words.
    name_folder(w, "models/wider", "models/clap")
    done = command(w, "index")
    assert (done["encoder"], done["video"], done["sound"]) == ("clap", 0, len(heard))
    spoken = next(one for one in clips.values() if Path(one["uri"]).name == "nasa_13013.mp4")
    for option in ("--sound", "--like"):
        found = command(w, "search", option, spoken["uri"], "--limit", "100")
        assert heard <= {one["clip_id"] for one in found}
        assert all(set(one["by"]) <= {"sound", "text"} for one in found)
    assert "knows no pictures, and the file has no sound" in refused(w, "search", "--like", wall["uri"])
    assert "knows no pictures" in refused(w, "index", "--duplicates")

    # All three; a text is compared with each by a vector of its own.
    name_folder(w, "models/clap", "models/pe")
    done = command(w, "index")
    assert (done["encoder"], done["video"], done["sound"]) == ("pe_audio_video", len(clips), len(heard))
    found = command(w, "search", "music in the dark", "--limit", "100")
    assert {one["clip_id"] for one in found} == set(clips)
    assert all({"video", "sound"} <= set(one["by"]) for one in found if one["clip_id"] in heard)
    assert command(w, "search", "--like", spoken["uri"])[0]["uri"] == spoken["uri"]


@pytest.mark.slow
def test_a_clip_that_the_model_fails_on_is_that_clips_reject(
    real_clips: Path, make_workspace: Callable[..., Workspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    from flywheel.models.towers import FolderEmbedder

    w = make_workspace("index.folder=clip", "corpus.most_unreadable=1")
    tiny_clip(w.root / "clip")
    with w.lock():
        ingest(w, [str(real_clips)])
        make = FolderEmbedder.vectors_of

        def fails(self: FolderEmbedder, modality: str, values: torch.Tensor) -> torch.Tensor:
            high, wide = values.shape[2:4] if modality == "video" else (0, 0)
            if high == wide == 64:
                raise RuntimeError("the tower takes no squares")
            vectors = make(self, modality, values)
            return vectors * float("nan") if wide == 64 else vectors

        with monkeypatch.context() as broken:
            broken.setattr(FolderEmbedder, "vectors_of", fails)
            done = index(w)
        rejects = w.rejected(open_only=True)
        assert (done.rejected, done.video) == (len(rejects), w.count("clips") - len(rejects))
        reasons = {Path(row["uri"]).name: row["reason"] for row in rejects.iter_rows(named=True)}
        assert "the tower takes no squares" in reasons["h265_video.mp4"]
        assert reasons["dj_video11.mp4"] == "its vector of video is no number"
        assert index(w).video == len(rejects)
    assert w.rejected(open_only=True).is_empty()
    assert vectors_in_use(w) is not None
    assert len(Searcher(w).search(SearchQuery(text="a dog", limit=50))) == w.count("clips")
    assert all(one.first != one.second for one in duplicates(w, least=-1, limit=5))
