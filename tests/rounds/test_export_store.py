"""Datasets put at the URL of an object store: whole with their card or not, never over something else, and removed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from flywheel.core.errors import UserError
from flywheel.rounds import RoundContext
from flywheel.rounds.export import export
from flywheel.rounds.export_store import MARK, address_of, part_at, remove_dataset
from flywheel.rounds.takedown import take_down
from flywheel.store.objects import Entry, Objects
from tests.rounds.test_champion import context, prepared  # noqa: F401
from tests.rounds.test_export import everything, wheel  # noqa: F401


class Killed(BaseException):
    """Nothing catches it, as nothing catches a kill."""


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    yield f"memory://{tmp_path.name}/sets/one"
    fsspec.filesystem("memory").store.clear()


def write(url: str, what: str, files: dict[str, str]) -> None:
    with part_at(url, what) as folder:
        for name, text in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)


def test_a_dataset_is_there_with_its_card_or_goes_on(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"README.md": "card", "dataset.json": "{}", "a/1.mp4": "1", "z.jsonl": "rows"}
    put, names = Objects.put, list[str]()

    def killed_before_the_card(objects: Objects, file: Path, name: str, *, new: bool = False) -> Entry:
        if name == "README.md":
            raise Killed
        names.append(name)
        return put(objects, file, name, new=new)

    with monkeypatch.context() as patch:
        patch.setattr(Objects, "put", killed_before_the_card)
        with pytest.raises(Killed):
            write(url, "round 1", {**files, "a/gone.mp4": "of an older try"})
    assert names == [MARK, "a/1.mp4", "a/gone.mp4", "z.jsonl"]
    with pytest.raises(UserError, match="holds something already"):
        write(url, "round 2", files)
    write(url, "round 1", files)
    assert set(Objects(url).listing()) == set(files)
    with pytest.raises(UserError, match="holds something already"):
        write(url, "round 1", files)
    remove_dataset(url)
    assert not Objects(url).listing()


def test_a_file_is_called_by_its_name_where_no_store_has_it(tmp_path: Path) -> None:
    assert address_of(tmp_path, f"{tmp_path}/media/1.mp4") == "1.mp4"
    (tmp_path / ".objects").write_text("memory://b/w")
    assert address_of(tmp_path, f"{tmp_path}/media/1.mp4") == "memory://b/w/media/1.mp4"
    assert address_of(tmp_path, "/videos/1.mp4") == "1.mp4"


@pytest.mark.slow
def test_an_export_to_a_store_is_the_one_to_a_folder_and_goes_with_a_takedown(
    wheel: RoundContext,  # noqa: F811
    url: str,
    tmp_path: Path,
) -> None:
    there = export(wheel, Path(url), "llava")
    here = export(wheel, tmp_path / "out", "llava")
    assert there.out == url
    assert there.clips == here.clips
    objects = Objects(url)
    for name in objects.listing():
        objects.get(name, tmp_path / "copy" / name)
    assert everything(tmp_path / "copy") == everything(tmp_path / "out")
    workspace = wheel.workspace
    clip_id = min(c.id for c in wheel.split("train"))
    with workspace.lock():
        taken = take_down(workspace, [clip_id], "asked for", rewrite=lambda: None)
    assert sorted(taken.exports) == sorted([url, str((tmp_path / "out").resolve())])
    assert not objects.listing()
