"""Takedowns that began and are not done yet: what a command must know to finish one whose clips are gone already."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from flywheel.store import Workspace
from flywheel.store.view import path_forms

#: Where the workspace's remembered values keep them, as a list.
_UNFINISHED = "takedowns_unfinished"


@dataclass(frozen=True, kw_only=True)
class Begun:
    """A takedown that began: what it was called by, its clips, and where those had been used."""

    #: Names as they were given, and paths that they mean -> ids of the clips.
    names: Mapping[str, list[str]]
    #: Ids of all clips that go, also of those that no name means.
    clips: list[str]
    usage: Mapping[str, list[Any]]

    def of(self, name: str) -> list[str]:
        """Ids of the clips that this name meant then."""
        return [clip_id for form in path_forms(name) for clip_id in self.names.get(form, ())]


def begin(workspace: Workspace, by_name: Mapping[str, Collection[str]], clips: Iterable[str], usage: Any) -> None:
    """Note what is about to go, until :func:`finish`; ``by_name`` are the names that were given -> ids of clips."""
    names = {form: sorted(ids) for name, ids in by_name.items() for form in path_forms(name)}
    begun = Begun(names=names, clips=sorted(clips), usage=usage)
    _keep(workspace, [*(b for b in unfinished(workspace) if b.names != begun.names), begun])


def unfinished(workspace: Workspace) -> list[Begun]:
    """Takedowns that began and are not done, oldest first."""
    return [Begun(**row) for row in json.loads(workspace.meta(_UNFINISHED) or "[]")]


def finish(workspace: Workspace, clips: Collection[str]) -> None:
    """Forget the takedowns of these clips alone: they are done."""
    gone = set(clips)
    _keep(workspace, [begun for begun in unfinished(workspace) if not gone.issuperset(begun.clips)])


def merged(usages: Iterable[Mapping[str, list[Any]]]) -> dict[str, list[Any]]:
    """What several looks at where clips were used came to, each use once: ``learned``, ``anchors_of`` and so on."""
    uses: dict[str, list[Any]] = {"learned": [], "anchors_of": [], "exports": [], "files": []}
    for usage in usages:
        for use, rows in usage.items():
            seen = {json.dumps(row, sort_keys=True) for row in uses[use]}
            uses[use] += [row for row in rows if json.dumps(row, sort_keys=True) not in seen]
    return uses


def _keep(workspace: Workspace, begun: Iterable[Begun]) -> None:
    workspace.set_meta(_UNFINISHED, json.dumps([asdict(b) for b in begun]))
