"""A workspace: one folder with the records, the database, the caches, the models and the reports of a corpus."""

from __future__ import annotations

import contextlib
import hashlib
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flywheel.core import config as configuration
from flywheel.core.errors import BorderError, UserError
from flywheel.core.files import written_whole
from flywheel.core.progress import say
from flywheel.store.columns import SCHEMAS
from flywheel.store.database import Database, public_url, sqlite_url
from flywheel.store.ledger import Ledger, Snapshot
from flywheel.store.locking import hold_folder, is_held
from flywheel.store.mark import DatabaseLost, Home
from flywheel.store.mirror import CACHE_MARK, Mirror, mirror_of
from flywheel.store.objects import url_of
from flywheel.store.opening import created, opened
from flywheel.store.read_only import open_local
from flywheel.store.schema import MOVED_TO, OWNER
from flywheel.store.takedowns import Takedowns
from flywheel.store.videos import RESPLITTING, Videos
from flywheel.store.view import View, snapshot_file
from flywheel.store.writing import WritableView


class Workspace(WritableView):
    """The door to a corpus. Open one with :meth:`open`; writing needs the lock (``with workspace.lock():``)."""

    def __init__(self, root: Path, config: configuration.Config, database: Database) -> None:
        super().__init__(root, config, database)
        self.ledger = Ledger(database)
        self.takedowns = Takedowns(root, database, self.records, self.ledger)
        self.videos = Videos(database, self.records)

    @classmethod
    def open(cls, path: str | Path, overrides: list[str] | None = None, *, check: bool = True) -> Workspace:
        """Open a workspace folder or its ``flywheel.yaml``. Raises UserError where there is none.

        Raises DatabaseLost where there are records that the database does not know; without ``check``, which is for
        repairs, a new database is made.
        """
        root = opened(path)
        _check_name(root)
        mirror = mirror_of(root.parent if root.is_file() else root)
        if mirror is not None:
            mirror.pull()
        file = root / configuration.FILE_NAME if root.is_dir() else root
        config = configuration.load_config(file, overrides)
        root = file.parent.resolve()
        local = root / "flywheel.db"
        if mirror is not None and not config.store.database:
            raise UserError(
                f"{mirror.url}: a workspace on an object store has its database on PostgreSQL. Write its URL into "
                "store.database of its flywheel.yaml."
            )
        home = Home(root) if check else None
        if config.store.database:
            url = os.path.expandvars(config.store.database)
            try:
                workspace = cls(root, config, Database(url, home))
            except DatabaseLost as error:
                if local.exists() and not _is_empty(local):
                    raise _not_moved(public_url(url), local) from error
                raise
            workspace._check_owner(local)
            workspace.records.trim_copies(int(config.store.copies_gib * 2**30))
            if mirror is not None:
                workspace._forget_taken_down(mirror)
            return workspace
        workspace = cls(root, config, open_local(local, home))
        if moved := workspace.meta(MOVED_TO):
            raise UserError(f"{local}: was moved to {moved}. Write store.database: {moved} into {file.name}.")
        return workspace

    @classmethod
    def create(cls, folder: str | Path, text: str) -> str | Path:
        """Write a config into a folder, or to the URL of an object store, that has none; returns its path or URL."""
        if (url := url_of(folder)) is not None:
            return created(url, configuration.FILE_NAME, text)
        folder = Path(folder)
        _check_name(folder)
        file = folder / configuration.FILE_NAME
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with open(file, "x", encoding="utf-8") as out:
                try:
                    out.write(text)
                    out.flush()
                except OSError:
                    # A disk that is full: half a config would be in the way of the next try.
                    file.unlink(missing_ok=True)
                    raise
        except FileExistsError as error:
            raise UserError(f"{file}: exists already. Edit it, or name another folder.") from error
        except OSError as error:
            raise UserError(f"{folder}: can't be written ({error.strerror}).") from error
        return file

    # The lock.

    @contextlib.contextmanager
    def lock(self, *, tidy: bool = True, resplits: bool = False) -> Iterator[Workspace]:
        """Hold the workspace for writing. Raises UserError while another process holds it, and where a new split was
        begun and not finished, to all but who finishes it (``resplits``).

        Moves aside what a killed writer left, and merges small shards at the end. Raises BorderError where a committed
        shard is gone. Without ``tidy``, which is for repairs, all files stay where they are.
        """
        if self.database.read_only:
            raise BorderError(self.database.read_only)
        with hold_folder(self.root), self.database.exclusive() as alone:
            if not alone:
                raise UserError(
                    f"{self.root}: in use by a flywheel process on another machine. Wait for it to end, or stop it.",
                    code="busy",
                )
            self._pull()
            if tidy:
                self.records.sweep()
            if not resplits and self.meta(RESPLITTING) == "yes":
                raise UserError(f"{self.root}: was being split anew when it was stopped. Finish it: flywheel resplit")
            try:
                yield self
            except BaseException:
                # What was done is kept where that goes; the error is what is said.
                with contextlib.suppress(Exception):
                    self.publish()
                raise
            if tidy:
                self._compact()
                self.records.index_words()
            self.publish()

    def publish(self) -> None:
        """Write what changed in the folder to the object store, where the workspace lies on one. For lock holders."""
        if (mirror := mirror_of(self.root)) is not None:
            mirror.publish()

    def discard(self, file: str | Path) -> None:
        """Remove a file of this folder, and in the object store too. For lock holders."""
        path = Path(file)
        if (mirror := mirror_of(self.root)) is not None and path.is_relative_to(self.root):
            mirror.discard(path.relative_to(self.root).as_posix())
        path.unlink(missing_ok=True)

    def _pull(self) -> None:
        if (mirror := mirror_of(self.root)) is not None:
            mirror.pull_held()

    @contextlib.contextmanager
    def share(self) -> Iterator[Workspace]:
        """Hold the workspace for writing together with others that share it, and nobody else.

        What is written then must be so by keys alone: of two that write the same one is first. Files are neither moved
        nor merged. Raises UserError while another process holds it alone.
        """
        if self.database.read_only:
            raise BorderError(self.database.read_only)
        with hold_folder(self.root, shared=True), self.database.exclusive(shared=True) as free:
            if not free:
                raise UserError(
                    f"{self.root}: in use by a flywheel process on another machine. Wait for it to end, or stop it.",
                    code="busy",
                )
            yield self

    def is_locked(self) -> bool:
        """Whether another process holds the workspace for writing now."""
        if is_held(self.root):
            return True
        with self.database.exclusive() as alone:
            return not alone

    def _compact(self) -> None:
        """Merge small shards. What the command did is done: if this fails, the next command does it."""
        if self.meta(MOVED_TO):
            # Not these, then, but those of the database that they are in now.
            return
        try:
            for kind in SCHEMAS:
                self.records.compact(kind)
        except BorderError as error:
            say(f"records: small shards were not merged ({error})")

    # Places.

    @property
    def url(self) -> str | None:
        """Where the workspace lies on an object store; None for one that is a folder."""
        mirror = mirror_of(self.root)
        return None if mirror is None else mirror.url

    def model_folder(self, round: int) -> Path:
        """Where the weights of a round's model lie."""
        return self.root / "models" / f"round={round:03d}"

    def report_folder(self, round: int) -> Path:
        """Where a round's report lies."""
        return self.root / "reports" / f"round={round:03d}"

    def move_database(self, url: str) -> int:
        """Copy all rows to an empty database and mark this one; returns how many. The caller holds the lock.

        The same again finishes a move that was killed. Raises UserError where the other holds something else.
        """
        other = Database(os.path.expandvars(url))
        try:
            owner = uuid.uuid4().hex
            with written_whole(self.root / ".workspace") as place:
                place.write_text(owner)
            return self.database.move_to(other, public_url(url), owner)
        finally:
            other.close()

    def _forget_taken_down(self, mirror: Mirror) -> None:
        """Empty this host's cache where another host took clips down: pictures and sounds of them may be in there."""
        if not (number := self.takedowns.count()):
            return
        file = self.root / "cache" / CACHE_MARK
        if file.exists() and file.read_text() == str(number):
            return
        if is_held(self.root):
            # A stage may be at work in there: the next one that opens the workspace does it.
            return
        # Until their records are gone somebody may look at them, and what that left goes the next time.
        is_done = not self.records.known("clips", self.takedowns.reasons())
        mirror.renew_cache(str(number) if is_done else "")

    def _check_owner(self, local: Path) -> None:
        """Raise UserError where a database elsewhere is another folder's, or empty while this folder's own is not."""
        file = self.root / ".workspace"
        mark = self.meta(OWNER)
        if mark is None:
            if local.exists() and not _is_empty(local):
                raise _not_moved(self.database.name, local)
            # The file first: killed between, the next one takes it. Of several the first in the database counts.
            mark = self.ledger.set_first(OWNER, self._mark_in(file))
        if not file.exists() or file.read_text().strip() != mark:
            raise UserError(
                f"store.database: {self.database.name} belongs to another workspace than {self.root}. "
                "Give each a database of its own."
            )

    def _mark_in(self, file: Path) -> str:
        """The mark of this workspace: what its file has, which is written where there is none."""
        mark = uuid.uuid4().hex
        if (mirror := mirror_of(self.root)) is not None:
            return mirror.settled(file.name, mark).strip()
        with contextlib.suppress(OSError):
            if before := file.read_text().strip():
                return before
        with written_whole(file) as place:
            place.write_text(mark)
        return mark

    # A round's data as it was.

    def freeze(self, round: int, *, leads: Iterable[str], gold: Mapping[str, str], excluded: Iterable[str]) -> Snapshot:
        """Keep what a round's data is now: how far the records go, a copy of the corrections, and what else may change.

        A round that is frozen already stays as it is. The caller holds the lock.
        """
        if (before := self.frozen(round)) is not None:
            return before
        file = snapshot_file(self.root, round)
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(".tmp")
        self.corrections().write_parquet(temporary)
        temporary.replace(file)
        self.publish()
        snapshot = Snapshot(
            round=round,
            position=self.ledger.last_position(),
            corrections_sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
            leads=tuple(sorted(leads)),
            gold=dict(gold),
            excluded=tuple(sorted(excluded)),
            retired=tuple(sorted(self.retired())),
            writers=self.writers(),
            changes=self.database.state()[1],
        )
        self.ledger.set_snapshot(snapshot)
        return snapshot

    def frozen(self, round: int) -> Snapshot | None:
        """The snapshot of a round; None for one that never came to its gate."""
        return self.ledger.snapshot(round)

    def as_of(self, round: int) -> View:
        """The workspace as it was when a round came to its gate.

        Raises UserError for a round that never did, and where its copy of the corrections is gone or changed.
        """
        snapshot = self.frozen(round)
        if snapshot is None:
            raise UserError(f"round {round}: never came to its gate, so there is no data of it as it was.")
        file = snapshot_file(self.root, round)
        if not file.exists() or hashlib.sha256(file.read_bytes()).hexdigest() != snapshot.corrections_sha256:
            raise UserError(f"{file}: is gone or changed. Restore it from a backup.")
        return View(self.root, self.config, self.database, snapshot)

    # The ledger's methods that are called most; :class:`~flywheel.store.ledger.Ledger` has more.

    def taken_down(self) -> dict[str, str]:
        """Ids of clips that were taken down -> why."""
        return self.takedowns.reasons()

    def begin_round(self, round: int, stages: Sequence[str]) -> None:
        """Record the stages that a round goes through, in order. A round that began keeps those it began with."""
        self.ledger.begin_round(round, stages)

    def order(self, round: int) -> tuple[str, ...] | None:
        """The stages that a round goes through, in order; None for one that never began."""
        return self.ledger.order(round)

    def stage(self, round: int, stage: str) -> tuple[str, dict[str, Any]]:
        """(state, result) of a stage; ("pending", {}) where it never began."""
        return self.ledger.stage(round, stage)

    def set_stage(self, round: int, stage: str, state: str, result: Mapping[str, Any], seconds: float = 0.0) -> None:
        """Record a stage's state and result. Seconds add up over interrupted tries."""
        if state == "done":
            self.publish()
        self.ledger.set_stage(round, stage, state, result, seconds)

    def stages_s(self, round: int) -> dict[str, float]:
        """Stages of a round that began -> seconds they took so far."""
        return self.ledger.stages_s(round)

    def money(self, round: int) -> float:
        """What a round's texts of all kinds cost so far."""
        return self.ledger.money(round)

    def champions(self) -> list[dict[str, Any]]:
        """Every promotion and rollback, oldest first."""
        return self.ledger.champions()

    def lineage(self) -> list[int]:
        """The champions that rollbacks would go back through, from the base (0) to the one in force."""
        return self.ledger.lineage()

    def promote(
        self, round: int, reason: str, *, action: str = "promote", details: Mapping[str, Any] | None = None
    ) -> None:
        """Put a round's model in force."""
        self.publish()
        self.ledger.promote(round, reason, action=action, details=details)

    def add_export(self, out: Path | str, round: int, clip_ids: Iterable[str]) -> None:
        """Remember a dataset that was taken away."""
        self.ledger.add_export(out, round, clip_ids)

    def exports(self) -> list[dict[str, Any]]:
        """Datasets that were taken away, oldest first."""
        return self.ledger.exports()

    def meta(self, key: str) -> str | None:
        """The value of this name; None where there is none."""
        return self.ledger.meta(key)

    def set_meta(self, key: str, value: str) -> None:
        """Remember a value by its name."""
        self.ledger.set_meta(key, value)


def _not_moved(name: str, local: Path) -> UserError:
    return UserError(
        f"store.database: {name} is empty, and {local} is not. Take its rows along with 'flywheel move-database URL'."
    )


def _check_name(folder: Path) -> None:
    """Raise UserError for a folder whose path no record can hold."""
    try:
        str(folder.absolute()).encode("utf-8")
    except UnicodeEncodeError:
        shown = os.fsencode(folder).decode("utf-8", "backslashreplace")
        raise UserError(f"{shown}: its path is no UTF-8. Rename the folder.") from None


def _is_empty(file: Path) -> bool:
    """Whether a SQLite database holds no records."""
    database = Database(sqlite_url(file))
    try:
        return database.is_empty()
    finally:
        database.close()
