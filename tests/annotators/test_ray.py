"""The Ray executor: the same texts as here, and whatever dies, no text lost and none twice."""

from __future__ import annotations

import importlib
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from annotators.executors.ray import _has_room, _read, connected
from annotators.interface import Request, Sampling
from annotators.tasks import AskResult, Task
from flywheel.core.config import Ray
from flywheel.core.errors import UserError
from flywheel.core.types import content_id
from flywheel.rounds import RoundContext
from flywheel.store import Workspace
from flywheel.store.clip_index import ClipIndex
from tests.plugins import installed

Make = Callable[..., Workspace]
NUM_CLIPS = 500

#: An engine as the fake one, which ends its process at a clip, and once in all at another.
MORTAL = """
    import errno
    import os
    from pathlib import Path
    from annotators.engines.fake import fake

    class Mortal:
        def __init__(self, folder, batch_size):
            self.folder, self.engine = Path(folder), fake(batch_size=batch_size, seconds_per_batch=0.02)

        def generate(self, requests, sampling):
            for request in requests:
                if request.prompt == "a fault":
                    raise ZeroDivisionError("a fault of the engine")
                if request.clip.key == (self.folder / "deadly").read_text():
                    os._exit(1)
                if request.clip.key == (self.folder / "once").read_text() and not (self.folder / "died").exists():
                    (self.folder / "died").touch()
                    os._exit(1)
                yield from self.engine.generate([request], sampling)

        def parts(self):
            return [self]

        def close(self):
            pass

    def full():
        raise OSError(errno.ENOSPC, "No space left on device")

    def broken():
        raise ValueError("odd bytes")

    def deadly():
        os._exit(1)

    def mortal(folder, batch_size=64, **_):
        return Mortal(folder, batch_size)

    mortal.needs_model = False
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the engine's package, for this process and those that it starts."""
    points = {"flywheel.annotators.engines:mortal": "mortal_engine:mortal"}
    with installed(tmp_path, "mortal_engine", dedent(MORTAL), points) as folder:
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(Path(__file__).parents[2])]))
        # Beside other tests they would hardly get to run.
        monkeypatch.setenv("RAY_worker_niceness", "0")
        yield folder


@pytest.fixture
def cluster(site: Path) -> Iterator[object]:
    """Two nodes; the second can be taken away."""
    import ray
    from ray.cluster_utils import Cluster

    memory = {"object_store_memory": 100 << 20, "include_dashboard": False}
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, **memory})
    nodes.second = nodes.add_node(num_cpus=1, object_store_memory=100 << 20)  # type: ignore[attr-defined]
    yield nodes
    ray.shutdown()
    nodes.shutdown()


def many(w: Workspace) -> list[str]:
    """The ids of many clips that share the spans of a few."""
    with w.lock():
        some = list(ClipIndex(w).of("train"))
        w.add_clips(replace(some[n % len(some)], id=content_id("copy", n)) for n in range(NUM_CLIPS))
    return sorted(ClipIndex(w).of("train").columns("id")["id"])


def write(w: Workspace) -> AskResult:
    context = RoundContext(w)
    with w.lock():
        return context.ask(context.split("train"), by=0, round=1)


def options(folder: Path) -> tuple[str, ...]:
    return "models.main.engine=mortal", f"models.main.options={{folder: {folder}}}", "annotate.batch_size=8"


def what_is_no_death_is_raised_as_here(w: Workspace) -> None:
    """On a cluster that is there already: a full disk, a clip's fault, a decoder's death, and an engine's fault."""
    context = RoundContext(w)
    executor, media = connected(w.config.ray), importlib.import_module("mortal_engine")

    def load(tasks: Iterable[Task]) -> dict[str, Any]:
        pytest.fail("it was read here")

    with executor.decoders(2) as decoders:
        told = {
            name: decoders.submit(load, [Task(clip_id="c", prompt="", media=getattr(media, name))])
            for name in ("full", "broken", "deadly")
        }
        with pytest.raises(OSError, match="No space left"):
            told["full"].result()
        assert "ValueError: odd bytes" in str(told["broken"].result()["c"])
        assert "its decoder ended 4 times (WorkerCrashedError)" in str(told["deadly"].result()["c"])
    with context.writer(context.prompt, 0) as writer:
        request = Request(key="k", clip=None, prompt="a fault")
        with pytest.raises(ZeroDivisionError, match="a fault of the engine"):
            list(writer.engine(lambda: ()).generate([request], Sampling(max_new_tokens=8)))


@pytest.mark.parametrize(
    ("nodes", "wants", "fits"),
    [
        ([{"CPU": 2}, {"CPU": 1}], {"actors": 2, "cpus_per_actor": 0.5, "cpus_per_decoder": 0.5}, True),
        ([{"CPU": 1}, {"CPU": 1}], {"cpus_per_actor": 2, "cpus_per_decoder": 0.1}, False),
        ([{"CPU": 8, "GPU": 1}] * 2, {"gpus_per_actor": 2}, False),
        ([{"CPU": 8, "GPU": 1}] * 2, {"actors": 2, "gpus_per_actor": 1}, True),
        ([{"CPU": 1}, {"CPU": 1}], {"actors": 2}, False),
        ([{"CPU": 1}], {"cpus_per_actor": 0}, True),
    ],
)
def test_actors_need_room_on_one_node_each(nodes: list[dict[str, float]], wants: dict[str, Any], fits: bool) -> None:
    assert _has_room(nodes, Ray(**wants)) is fits


def test_a_decoder_counts_what_it_reads_and_opens_a_database_only_where_it_must(ingested: Workspace) -> None:
    context = RoundContext(ingested)
    clip = next(iter(context.split("train")))
    (_, first), _ = _read(partial(context.reader, clip, {"frames"}))
    reader = pickle.loads(pickle.dumps(context.reader))
    (error, told), found = _read(partial(reader, clip, {"frames"}))
    assert error is None
    assert found is not None
    assert (first.decodes + first.cache_hits, told.decodes, told.cache_hits) == (1, 0, 1)
    assert told.seconds > 0
    assert reader._view._view is None, "what lies in the cache needs no database"


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_no_text_is_lost_or_doubled_when_engines_and_a_node_die(
    ingested: Workspace, make_workspace: Make, tmp_path: Path, cluster: object
) -> None:
    ids = many(ingested)
    (tmp_path / "deadly").write_text(ids[100])
    (tmp_path / "once").write_text(ids[300])
    address = cluster.address  # type: ignore[attr-defined]
    w = make_workspace(
        *options(tmp_path),
        "annotate.commit_rows=32",
        "annotate.executor=ray",
        f"ray.address={address}",
        "ray.actors=2",
        "ray.cpus_per_actor=0.5",
        "ray.cpus_per_decoder=0.5",
    )

    ended = threading.Event()

    def take_a_node() -> None:
        while not ended.is_set() and w.records.count("annotations", round=1) < 100:
            time.sleep(0.05)
        cluster.remove_node(cluster.second, allow_graceful=False)  # type: ignore[attr-defined]

    killer = threading.Thread(target=take_a_node, daemon=True)
    killer.start()
    try:
        result = write(w)
    finally:
        ended.set()
        killer.join()
    texts = w.annotations(round=1)
    rejected = w.rejected(round=1)
    assert (result.written, texts.height) == (len(ids) - 1, len(ids) - 1)
    assert sorted(texts["clip_id"]) == [clip_id for clip_id in ids if clip_id != ids[100]]
    assert rejected["clip_id"].to_list() == [ids[100]]
    assert "3 engines ended while they had it" in rejected["reason"][0]
    assert (tmp_path / "died").exists()
    assert result.decode_s > 0
    assert result.decodes + result.cache_hits >= len(ids)
    what_is_no_death_is_raised_as_here(w)
    # The same questions here have the same keys: all but the one that was set aside are answered already.
    (tmp_path / "deadly").write_text("")
    here = RoundContext(make_workspace(*options(tmp_path)))
    with here.workspace.lock():
        again = here.ask(here.split("train"), by=0, round=2)
    assert (again.reused, again.generated) == (len(ids) - 1, 1)


def test_an_address_where_no_head_is() -> None:
    from annotators.executors import build

    with pytest.raises(UserError, match=r"ray.address 127.0.0.1:9: no Ray head answers .*Start it with"):
        build("ray", Ray(address="127.0.0.1:9"))
    with pytest.raises(UserError, match=r"'somewhere' is no address\. Write HOST:PORT"):
        build("ray", Ray(address="somewhere"))


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from annotators.executors import build

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"ray is not installed\. pip install"):
        build("ray", Ray())
