"""Decoders and engines on a Ray cluster, and the border to Ray.

Decoders are tasks, each engine is an actor. The driver, which is the command, hands out requests and commits what comes
back; it holds no pixels. What dies is made up for: a decoder's task is repeated by Ray, an actor is started anew here
and proven before it writes, and the requests that it held are sent again, each alone, so that one that ends every actor
is found and set aside.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from annotators.executors import Decoded, Decoders, Load, Media
from annotators.interface import Engine, Request, Result, Sampling, failed
from flywheel import __version__
from flywheel.core.border import is_of_one_item, one_item, reason_of
from flywheel.core.config import Ray
from flywheel.core.errors import BorderError, FlywheelError, MediaError, UserError, first_line
from flywheel.core.progress import say

if TYPE_CHECKING:
    from annotators.tasks import Task
    from annotators.writer import Recipe

#: Calls that an actor has at a time: one that it works on, and the next.
_CALLS = 2
#: The longest wait for a cluster's head to take a connection, in seconds.
_CONNECT_S = 5.0
#: How often whoever waits for a clip looks whether there is still to be waited, in seconds.
_LOOK_EVERY_S = 1.0
#: More tries of a clip whose decoder dies.
_DECODE_TRIES = 3


def connected(settings: Ray) -> Cluster:
    """The cluster at ``ray.address``, or one of this machine that ends with the command.

    Raises UserError where Ray is not installed, no cluster answers there, or it is of another version.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ModuleNotFoundError as error:
        raise UserError(
            "annotate.executor: ray is not installed. pip install 'video-dataflywheel[ray]', or set it to local."
        ) from error
    if not ray.is_initialized():
        if settings.address:
            _check_there(settings.address)
        try:
            ray.init(
                address=settings.address or "local",
                include_dashboard=None if settings.address else False,
                configure_logging=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except Exception as error:
            where = f"ray.address {settings.address}" if settings.address else "annotate.executor: ray"
            raise UserError(
                f"{where}: no cluster could be joined ({first_line(error)}). "
                "Start one with 'ray start --head', of this version of Ray and Python, or leave ray.address empty."
            ) from error
    return Cluster(settings)


def _check_there(address: str) -> None:
    """Raise UserError where nothing listens at HOST:PORT; Ray itself would try for a minute."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address == "auto":
        return
    if not host or not port.isdecimal():
        raise UserError(f"ray.address: '{address}' is no address. Write HOST:PORT of the head, such as 10.0.0.1:6379.")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
    except OSError as error:
        raise UserError(
            f"ray.address {address}: no Ray head answers ({error}). Start it with 'ray start --head --port {port}', "
            "or put the address right."
        ) from error


@dataclass(frozen=True)
class _Remote:
    """A clip's media in the cluster's memory, in a request."""

    ref: Any


class Cluster:
    """Ray as an executor."""

    def __init__(self, settings: Ray) -> None:
        self._settings = settings
        self.width = settings.actors
        self.decoded = deque[Decoded]()

    @contextmanager
    def decoders(self, count: int) -> Iterator[Decoders]:
        """Decoders as tasks of the cluster; how many run at once is the cluster's."""
        # Threads here only wait for what tasks there tell.
        decoders = _Decoders(max(count, 2 * self.width), self._settings, self.decoded)
        try:
            yield decoders
        finally:
            decoders.close()

    def engine(self, recipe: Recipe, build: Callable[[], Engine], checks: list[Callable[[Engine], object]]) -> Engine:
        """A pool of ``ray.actors`` engines. Raises UserError or BorderError where none could be started."""
        return _Pool(recipe, self._settings, checks)


class _Decoders:
    def __init__(self, num_threads: int, settings: Ray, decoded: deque[Decoded]) -> None:
        import ray

        self._waiting = ThreadPoolExecutor(num_threads)
        self._patience_s, self._decoded = settings.patience_s, decoded
        #: When any clip was read last: while others are, one waits its turn.
        self._last = time.monotonic()
        self._ended = False
        options = {"num_cpus": settings.cpus_per_decoder, "num_returns": 2, "max_retries": _DECODE_TRIES}
        self._read = ray.remote(_read).options(**options)

    def submit(self, load: Load, tasks: list[Task], /) -> Future[Media]:
        """The media of these tasks, in the cluster's memory."""
        media = {task.clip_id: task.media for task in tasks}
        refs = {clip_id: self._read.remote(read) for clip_id, read in media.items() if read is not None}
        return self._waiting.submit(self._media, {clip_id: refs.get(clip_id) for clip_id in media})

    def close(self) -> None:
        """End the decoders; clips that were not read yet stay so."""
        self._ended = True
        self._waiting.shutdown(wait=True, cancel_futures=True)

    def _media(self, refs: dict[str, Any]) -> Media:
        return {clip_id: None if both is None else self._one(*both) for clip_id, both in refs.items()}

    def _one(self, outcome: Any, media: Any) -> _Remote | MediaError:
        """A clip's media, or why there are none. Raises what concerns more than this clip."""
        import ray

        try:
            error, decoded = self._wait(outcome)
        except ray.exceptions.RayError as problem:
            return _of_the_clip(problem)
        self._decoded.append(decoded)
        return _Remote(media) if error is None else error

    def _wait(self, outcome: Any) -> tuple[MediaError | None, Decoded]:
        """Returns a task's outcome once it is there. Raises BorderError where no task ends for too long."""
        import ray

        began = time.monotonic()
        while not ray.wait([outcome], timeout=_LOOK_EVERY_S)[0]:
            if self._ended:
                raise BorderError("ray: the pass ended while a clip was being read.")
            if time.monotonic() - max(began, self._last) > self._patience_s:
                raise BorderError(
                    f"ray: no clip was read within {self._patience_s:g} s (ray.patience_s). "
                    "See 'ray status' for what the cluster lacks; what is committed stands."
                )
        self._last = time.monotonic()
        error_and_reads: tuple[MediaError | None, Decoded] = ray.get(outcome)
        return error_and_reads


def _read(media: Callable[[], Any]) -> tuple[tuple[MediaError | None, Decoded], Any]:
    """Read a clip's media on a node of the cluster; the first is why it can't be, and what reading took."""
    cache = getattr(getattr(media, "func", media), "cache", None)
    began, before = time.perf_counter(), (cache.decodes, cache.hits) if cache is not None else (0, 0)
    error, found = None, None
    try:
        with one_item():
            found = media()
    except MediaError as problem:
        error = MediaError(str(problem), code=problem.code)
    after = (cache.decodes, cache.hits) if cache is not None else (0, 0)
    return (error, Decoded(time.perf_counter() - began, after[0] - before[0], after[1] - before[1])), found


def _of_the_clip(problem: Exception) -> MediaError:
    """Why a clip's media can't be had, by what its task ended with. Raises what concerns more than this clip."""
    from ray import exceptions

    cause = _cause(problem)
    if cause is not None:
        if not is_of_one_item(cause):
            raise cause from problem
        return MediaError(f"can't be read ({reason_of(cause)})")
    if isinstance(problem, exceptions.WorkerCrashedError):
        return MediaError(f"its decoder ended {1 + _DECODE_TRIES} times ({_why(problem)})")
    if _is_a_death(problem):
        return MediaError(f"its decoder ended, or what it read was lost ({_why(problem)})")
    raise BorderError(f"ray: clips can't be read ({_why(problem)}). See 'ray status'.") from problem


class _Worker:
    """An engine on a node of the cluster."""

    def start(self, recipe: Recipe) -> tuple[str, str]:
        """Build the engine; returns this host and the version of our packages."""
        self._engine = recipe.build()
        return socket.gethostname(), __version__

    def write(self, requests: Sequence[Request], sampling: Sampling) -> list[Result]:
        """The results of these requests."""
        import ray

        media: list[Any] = [request.clip for request in requests]
        clips = iter(ray.get([clip.ref for clip in media if isinstance(clip, _Remote)]))
        whole = [
            replace(request, clip=next(clips)) if isinstance(clip, _Remote) else request
            for request, clip in zip(requests, media, strict=True)
        ]
        return list(self._engine.generate(whole, sampling))


@dataclass(eq=False)
class _Actor:
    """One engine of the pool, as an engine of its own: what its proof asks."""

    handle: Any
    #: Reference of a call -> its requests.
    calls: dict[Any, list[Request]] = field(default_factory=dict)
    #: Whether a request has it for itself.
    alone: bool = False

    def generate(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Result]:
        import ray

        try:
            yield from ray.get(self.handle.write.remote(list(requests), sampling))
        except ray.exceptions.RayError as error:
            raise _own(error) or BorderError(
                f"ray: an engine ended while it was proven ({_why(error)}). Run the same command."
            ) from error

    def parts(self) -> list[_Actor]:
        return [self]

    def close(self) -> None:
        import ray

        with suppress(Exception):
            ray.kill(self.handle)


class _Pool:
    """Engines of which each is an actor; one that dies is started anew, proven, and goes on."""

    def __init__(self, recipe: Recipe, settings: Ray, checks: list[Callable[[Engine], object]]) -> None:
        self._recipe, self._settings, self._checks = recipe, settings, checks
        self._starting: list[Future[_Actor]] = []
        self._threads = ThreadPoolExecutor(settings.actors, thread_name_prefix="ray-actors")
        #: All that were made, also those that are still being started.
        self._handles: list[_Actor] = []
        self._closed = False
        #: Restarts in all, and since the last call that came back with results.
        self._restarts = self._in_vain = 0
        self._deaths: dict[str, int] = {}
        self._check_room()
        for _ in range(settings.actors):
            self._starting.append(self._threads.submit(self._started, prove=False))
        self._actors: list[_Actor] = []
        try:
            self._actors = [future.result() for future in self._starting]
        except BaseException:
            self.close()
            raise
        self._starting = []

    def _check_room(self) -> None:
        """Raise UserError where the cluster is too small for the actors and a decoder beside them."""
        import ray

        nodes, wants = [node["Resources"] for node in ray.nodes() if node["Alive"]], self._settings
        if not _has_room(nodes, wants):
            resources = "; ".join(f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs" for node in nodes[:8])
            raise UserError(
                f"ray.actors: {wants.actors} actors, each of {wants.cpus_per_actor:g} CPUs and "
                f"{wants.gpus_per_actor:g} GPUs of one node, and a decoder of {wants.cpus_per_decoder:g} CPUs don't "
                f"fit into the cluster's {len(nodes)} nodes ({resources}{'; ...' if len(nodes) > 8 else ''}). Lower "
                "ray.actors, ray.gpus_per_actor, ray.cpus_per_actor or ray.cpus_per_decoder, or add nodes."
            )

    def _started(self, *, prove: bool) -> _Actor:
        """A new actor with its engine, proven where others were. Raises FlywheelError where it can't be had."""
        import ray

        wants = self._settings
        handle = ray.remote(_Worker).options(num_cpus=wants.cpus_per_actor, num_gpus=wants.gpus_per_actor).remote()
        actor = _Actor(handle)
        self._handles.append(actor)
        if self._closed:
            actor.close()
        try:
            host, version = ray.get(handle.start.remote(self._recipe), timeout=wants.patience_s)
            if version != __version__:
                raise UserError(
                    f"ray: host {host} has version {version} of this package, this one {__version__}. "
                    "Install the same on all hosts."
                )
            for check in list(self._checks) if prove else ():
                check(actor)
        except ray.exceptions.GetTimeoutError as error:
            actor.close()
            raise BorderError(
                f"ray: an engine was not started within {wants.patience_s:g} s (ray.patience_s). "
                "See 'ray status' for what the cluster lacks."
            ) from error
        except ray.exceptions.RayError as error:
            actor.close()
            raise _own(error) or BorderError(f"ray: an engine could not be started ({_why(error)}).") from error
        except FlywheelError:
            actor.close()
            raise
        return actor

    def generate(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Result]:
        """Results as calls come back, from whichever actor."""
        import ray

        stream, again = iter(requests), deque[Request]()
        ended = False
        while True:
            self._take_started()
            while (actor := self._free(bool(again))) is not None:
                some = [again.popleft()] if again else list(islice(stream, self._recipe.batch_size))
                if not some:
                    ended = True
                    break
                actor.alone = bool(self._deaths.get(some[0].key))
                actor.calls[actor.handle.write.remote(some, sampling)] = some
            calls = {call: actor for actor in self._actors for call in actor.calls}
            if not calls:
                if ended and not again:
                    return
                self._wait_for_an_actor()
                continue
            ready, _ = ray.wait(list(calls), timeout=1.0)
            for call in ready:
                yield from self._came_back(calls[call], call, again)

    def _free(self, alone: bool) -> _Actor | None:
        """An actor that can take a call; one without any for a request that must be alone."""
        most = 1 if alone else _CALLS
        return next((actor for actor in self._actors if len(actor.calls) < most and not actor.alone), None)

    def _came_back(self, actor: _Actor, call: Any, again: deque[Request]) -> Iterator[Result]:
        import ray

        if call not in actor.calls:
            # It died with another call.
            return
        try:
            results = ray.get(call)
        except ray.exceptions.RayError as error:
            # An engine says by a BorderError that it stopped.
            cause = _cause(error)
            if not _is_a_death(error) and not isinstance(cause, BorderError):
                raise cause or BorderError(f"ray: an engine can't be asked ({_why(error)}).") from error
            yield from self._died(actor, error, again)
            return
        self._in_vain = 0
        del actor.calls[call]
        actor.alone = False
        yield from results

    def _died(self, actor: _Actor, error: Exception, again: deque[Request]) -> Iterator[Result]:
        """Start another in an actor's place; its requests are sent again, or set aside where they were too often."""
        self._restarts, self._in_vain = self._restarts + 1, self._in_vain + 1
        # All of them may go with a node, and a clip may end as many as it is let.
        if self._in_vain > self._settings.max_deaths * (self._settings.actors + 2):
            raise BorderError(
                f"ray: engines ended {self._in_vain} times without one text in between, the last for: {_why(error)}. "
                "Fix that and run the same command: what is committed stands."
            ) from error
        say(f"ray: an engine ended ({_why(error)}); it is started anew, {self._restarts} so far")
        self._actors.remove(actor)
        actor.close()
        self._starting.append(self._threads.submit(self._started, prove=True))
        for request in [request for some in actor.calls.values() for request in some]:
            deaths = self._deaths[request.key] = self._deaths.get(request.key, 0) + 1
            if deaths < self._settings.max_deaths:
                again.append(request)
            else:
                yield failed(request, f"{deaths} engines ended while they had it ({_why(error)})")

    def _take_started(self) -> None:
        """Take in actors that were started anew. Raises what kept them from it where none is left."""
        for future in [future for future in self._starting if future.done()]:
            self._starting.remove(future)
            try:
                self._actors.append(future.result())
            except BorderError as error:
                if not self._actors and not self._starting:
                    raise
                say(f"{error} {len(self._actors)} engines go on")

    def _wait_for_an_actor(self) -> None:
        if not self._actors and not self._starting:
            raise BorderError("ray: no engine is left. Run the same command: what is committed stands.")
        time.sleep(0.05)

    def parts(self) -> list[_Actor]:
        """The actors, each of which is proven."""
        return list(self._actors)

    def close(self) -> None:
        """End all actors, first those that are being started: nobody waits for these."""
        self._closed = True
        for actor in list(self._handles):
            actor.close()
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._actors, self._starting, self._handles = [], [], []


def _cause(error: Exception) -> BaseException | None:
    """Returns the error that a task raised, unwrapped; None where Ray itself ended it."""
    from ray import exceptions

    cause = getattr(error, "cause", None) if isinstance(error, exceptions.RayTaskError) else None
    return None if not isinstance(cause, BaseException) or isinstance(cause, exceptions.RayError) else cause


def _own(error: Exception) -> FlywheelError | None:
    """Our error that Ray wrapped; None where it is Ray's own."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, FlywheelError) else None


def _is_a_death(error: Exception) -> bool:
    """Returns whether Ray's error means that a process, its node or its memory is gone."""
    from ray import exceptions as of

    if isinstance(error, of.RayTaskError):
        # What its task met when it took in what it was given.
        return isinstance(error.cause, of.RayError) and error.cause is not error and _is_a_death(error.cause)
    gone = (of.RayActorError, of.WorkerCrashedError, of.NodeDiedError, of.LocalRayletDiedError)
    return isinstance(error, (*gone, of.ObjectLostError, of.OutOfMemoryError))


def _why(error: Exception) -> str:
    """Why a call ended, in one line: the words of what was raised there, or the name that Ray has for it."""
    cause = getattr(error, "cause", None)
    return reason_of(cause) if isinstance(cause, BaseException) else type(error).__name__


def _has_room(nodes: Iterable[Mapping[str, float]], wants: Ray) -> bool:
    """Returns whether nodes have room for the actors, each whole on one, and a decoder."""
    sizes = [(node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in nodes]

    def fit(cpus: float, gpus: float) -> int:
        pairs = ((cpus, wants.cpus_per_actor), (gpus, wants.gpus_per_actor))
        # Shares are written as decimals.
        return min([int(has / each + 1e-6) for has, each in pairs if each], default=wants.actors)

    most = sum(fit(*size) for size in sizes)
    return any(
        most - fit(cpus, gpus) + fit(cpus - wants.cpus_per_decoder, gpus) >= wants.actors
        for cpus, gpus in sizes
        if cpus >= wants.cpus_per_decoder
    )
