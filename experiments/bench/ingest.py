"""Measures what taking files in costs, against another state of this code, by turns in own processes.

    python experiments/bench/ingest.py --other TREE [--clips FOLDER] [--files 400] [--repeats 9]

TREE is a checkout of the other state. Prints for each source CPU milliseconds a file (user and system, children too, of
the ingest alone and not of the imports), the least of the repeats and the ratio, and whether both took in the same.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[2]
_CHILD = """
import json, os, sys
from flywheel.core.config import template
from flywheel.ingest import ingest
from flywheel.store import Workspace
root, source = sys.argv[1:]
if not os.path.exists(root):
    Workspace.create(__import__("pathlib").Path(root), template())
workspace = Workspace.open(root, ["tracking.enabled=false"])
before = os.times()
with workspace.lock():
    result = ingest(workspace, [source])
after = os.times()
clips = sorted(workspace.clips().select("id", "transcript").iter_rows())
print(json.dumps({"cpu_s": sum(after[:4]) - sum(before[:4]), "clips": clips, "rejected": result.rejected}))
"""


def main() -> None:
    """Make the sources, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--other", type=Path, required=True)
    parser.add_argument("--clips", type=Path, help="a folder of videos as cameras and sites make them")
    parser.add_argument("--files", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for name, source in _sources(folder, options.files, options.clips).items():
            _compare(folder, name, source, options.other.resolve(), options.repeats)


def _sources(folder: Path, num_files: int, clips: Path | None) -> Mapping[str, Path]:
    """Folders by what they are: rendered videos alone, with words beside them, with subtitles, and real ones."""
    sys.path.insert(0, str(HERE))
    from flywheel.playground import write_playground

    write_playground(folder / "playground", seed=4021, num_clips=num_files, noise_rate=0.5)
    words = folder / "playground" / "corpus"
    alone, subtitles = folder / "alone", folder / "subtitles"
    for target in (alone, subtitles):
        target.mkdir()
        for video in words.glob("*.mp4"):
            os.link(video, target / video.name)
    for text in words.glob("*.txt"):
        said = text.read_text().strip() or "nothing"
        cues = "".join(f"{n + 1}\n00:00:0{n},000 --> 00:00:0{n},900\n{said}\n\n" for n in range(3))
        (subtitles / text.with_suffix(".srt").name).write_text(cues)
    sources = {"videos alone": alone, "with .txt": words, "with .srt": subtitles}
    if clips is not None:
        shutil.copytree(clips, folder / "real", ignore=lambda at, names: [n for n in names if n.startswith(".")])
        sources["real videos"] = folder / "real"
    return sources


def _compare(folder: Path, name: str, source: Path, other: Path, repeats: int) -> None:
    trees = {"now": HERE, "other": other}
    first: dict[str, list[float]] = {tree: [] for tree in trees}
    again: dict[str, list[float]] = {tree: [] for tree in trees}
    taken: dict[str, object] = {}
    for repeat in range(repeats):
        # Whoever is first in a turn meets a colder machine.
        for tree in sorted(trees, reverse=bool(repeat % 2)):
            root = folder / "workspace"
            shutil.rmtree(root, ignore_errors=True)
            for times in (first, again):
                said = _ingest(trees[tree], root, source)
                times[tree].append(said["cpu_s"])
            taken[tree] = (said["clips"], said["rejected"])
    same = "the same clips and words" if taken["now"] == taken["other"] else "OTHER clips or words"
    num_files = sum(1 for file in source.rglob("*") if file.suffix not in {".txt", ".srt"} and file.is_file())
    for what, times in (("taken in", first), ("known", again)):
        least = {tree: 1000 * min(values) / num_files for tree, values in times.items()}
        ratios = sorted(a / b for a, b in zip(times["now"], times["other"], strict=True))
        print(
            f"{name}, {what}: now {least['now']:.2f} ms, other {least['other']:.2f} ms, "
            f"ratio of the least {least['now'] / least['other']:.3f}, "
            f"of pairs {statistics.median(ratios):.3f} ({ratios[0]:.2f} to {ratios[-1]:.2f}); {same}",
            flush=True,
        )


def _ingest(tree: Path, root: Path, source: Path) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(root), str(source)],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        cwd=tree,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main()
