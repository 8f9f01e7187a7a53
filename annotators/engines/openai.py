"""A pool of OpenAI-compatible servers (vLLM's):
least-loaded routing, retries with jitter, servers that fail left alone for a while."""

from __future__ import annotations

import base64
import copy
import io
import json
import random
import re
import ssl
import threading
import time
import wave
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from annotators.engines._address import DEFAULT_KEY, Address, address_of, key_of, redirected, retry_after_s
from annotators.engines._answers import NotAResult, NoTokens, result_of
from annotators.interface import Request, Result, Sampling, failed, seed_of
from flywheel.core.border import one_item
from flywheel.core.errors import BorderError, MediaError, UserError, first_line
from flywheel.core.progress import say
from flywheel.models.hub import hub_id_of
from flywheel.models.inputs import SOUND_RATE_HZ, ClipInput, InputBuilder
from flywheel.models.load import folder_digest
from flywheel.models.marks import Marks

#: A server that failed is left alone for this long, doubled with each failure in a row up to the most; seconds.
_REST_S, _MOST_REST_S = 0.5, 30.0
#: Requests that are prepared while others are at work, as a share of those.
_WAITING = 0.5
#: A request at which servers failed so often is given up; one that fails while the servers are away is not.
_MOST_TRIES = 4


#: Statuses of a server that has too much to do, and how often in a row that is waited for.
_BUSY, _MOST_BUSY = frozenset({429, 503, 529}), 30
_MOST_REDIRECTS, _MOST_BYTES, _MOST_NAMED = 5, 1 << 26, 20
_TOO_LONG = re.compile(
    r"(?i)context (?:length|window|size)|maximum (?:model )?length|max_model_len|too (?:long|many tokens)"
    r"|longer than the|exceeds? .{0,40}(?:tokens|length|context)"
)
_NAME_ONE = "Name one in models.main.servers, such as http://host:8000."
_WHAT_FOR = (
    "without which neither an adapter can be proven nor texts be weighed. "
    "Serve the model with a vLLM of today ('flywheel serve')"
)


class _ServerFailed(Exception):
    """This try failed. ``answered`` where the server was there and failed at this request,
    which may be the request's fault; ``busy`` where it has too much to do; ``after_s``: when to come back, seconds."""

    def __init__(self, why: str, *, answered: bool = False, busy: bool = False, after_s: float | None = None) -> None:
        super().__init__(why)
        self.answered, self.busy, self.after_s = answered, busy, after_s


class _RequestRefused(Exception):
    """The server does not take this request."""


@dataclass
class _Server:
    address: Address
    client: httpx.Client
    at_work: int = 0
    failures: int = 0
    rests_until: float = 0.0
    #: Until when it asked to be left alone: to wait for that takes no patience.
    asked_until: float = 0.0
    last_error: str = ""
    #: It has answered with tokens.
    proven: bool = False
    lost: bool = False
    #: It was lost for what the user can mend.
    users: bool = False

    @property
    def url(self) -> str:
        """The address as it is printed: without keys."""
        return str(self.address)

    def lose(self, why: str, *, users: bool = False) -> None:
        """Leave it out from now on."""
        self.lost, self.last_error, self.users = True, why, users


class _Engine:
    def __init__(
        self,
        model: Path,
        adapter: Path | None,
        name: str,
        servers: Sequence[str],
        concurrency: int,
        timeout_s: float,
        patience_s: float,
        plain: Callable[[str], str],
        api_key_env: str,
    ) -> None:
        if not servers:
            raise UserError(
                "engine 'openai': models.main.servers names none. Start one with 'flywheel serve' and name its URL."
            )
        self._model, self._adapter, self._plain = model, adapter, plain
        self._name = "" if adapter is None else f"{name}-{folder_digest(adapter)}"
        self._concurrency, self._patience_s = concurrency, patience_s
        limits = httpx.Limits(max_connections=concurrency + 2, max_keepalive_connections=concurrency + 2)
        self._timeout_s, self._key = timeout_s, key_of(api_key_env)
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        timeout = httpx.Timeout(timeout_s, connect=10.0)
        addresses = [address_of(url) for url in servers]
        if self._key:
            addresses = [replace(a, base=a.base.copy_with(userinfo=b"")) for a in addresses]
        client = partial(httpx.Client, timeout=timeout, limits=limits, headers=headers, verify=_certificates())
        self._servers = [_Server(address, client()) for address in addresses]
        self._near = {address.base.host for address in addresses} <= {"localhost", "127.0.0.1", "::1"}
        self._lock = threading.Condition()
        self._closed = False
        #: When one was last well: tries at one that has just rested are no sign of that.
        self._last_well = time.monotonic()
        asked = self._servers
        # What was not there at the start was not proven, and stays out.
        self._servers = [server for server in asked if self._prepared(server)]
        if not self._servers:
            raise BorderError(f"no server answers: {'; '.join(f'{s.url} ({s.last_error})' for s in asked)}.")

    # -- servers -------------------------------------------------------------------------------------------------------

    def _prepared(self, server: _Server) -> bool:
        """Whether the server is there, serves the model, and has the adapter,
        under the name that is its content's digest."""
        try:
            answer = self._sent(server, "models")
            if answer.status_code in (401, 403):
                raise UserError(f"{server.url}: {_asks_for_a_key(server, answer, self._key)}")
            if answer.status_code == 404:
                raise UserError(f"{server.url}: has no /v1/models, so it is no OpenAI-compatible server. {_NAME_ONE}")
            answer.raise_for_status()
            models = [dict(model) for model in answer.json()["data"]]
        except httpx.HTTPStatusError as error:
            self._rest(server, f"{error.response.status_code} {_reason(error.response)}", retry_after_s(error.response))
            return False
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            self._rest(server, first_line(error))
            return False
        # Servers name a model by the folder, or by the id, that they were started with.
        roots = {str(self._model), str(self._model.resolve()), hub_id_of(self._model)} - {""}
        base = [m["id"] for m in models if m.get("root") in roots and not m.get("parent")]
        if not base:
            serves = ", ".join(str(m.get("root") or m.get("id")) for m in models[:_MOST_NAMED]) or "no model"
            raise UserError(
                f"{server.url}: serves {serves}, not {self._model}. Start it with 'flywheel serve' of this round."
            )
        if self._adapter is None:
            self._name = base[0]
        elif self._name not in {m["id"] for m in models}:
            path = str(self._adapter.resolve())
            answer = self._sent(server, "load_lora_adapter", {"lora_name": self._name, "lora_path": path})
            if answer.status_code >= 400:
                raise BorderError(
                    f"{server.url}: does not load the adapter ({_reason(answer)}). "
                    f"Was it started with 'flywheel serve', and does it see {path}?"
                )
        return True

    def _rest(self, server: _Server, why: str, after_s: float | None = None) -> None:
        """Leave a server alone for a while, or for as long as it asks to be."""
        with self._lock:
            if server.failures == 0:
                self._last_well = time.monotonic()
            server.failures += 1
            server.last_error = why
            rest_s = min(_MOST_REST_S, _REST_S * 2 ** min(10, server.failures - 1))
            server.rests_until = time.monotonic() + (rest_s if after_s is None else max(_REST_S, after_s))
            if after_s is not None:
                server.asked_until = server.rests_until
        if server.failures == 1:
            say(f"annotate: {server.url} fails ({why}).")

    def _take(self) -> _Server:
        """The least loaded server that is well, as soon as it has room.
        Raises BorderError where none was well for too long."""
        with self._lock:
            while not self._closed:
                now = time.monotonic()
                well = [s for s in self._servers if s.rests_until <= now and not s.lost]
                free = [s for s in well if s.at_work < self._concurrency]
                if free:
                    server = min(free, key=lambda s: (s.at_work, s.failures))
                    server.at_work += 1
                    return server
                if all(s.lost for s in self._servers):
                    users = any(s.users for s in self._servers)
                    why = "; ".join(f"{s.url}: {s.last_error}" for s in self._servers)
                    raise (UserError if users else BorderError)(f"{why}. What is committed stands.")
                if any(s.failures == 0 and not s.lost for s in self._servers):
                    self._last_well = now
                elif now > self._patience_s + max(
                    self._last_well, *(s.asked_until for s in self._servers if not s.lost)
                ):
                    raise BorderError(
                        f"no server answers for {self._patience_s:.0f} s: "
                        f"{'; '.join(f'{s.url} ({s.last_error})' for s in self._servers)}. "
                        "Fix them and run the same command: what is committed stands."
                    )
                self._lock.wait(timeout=0.2)
        raise BorderError("the engine is closed.")

    def _give_back(self, server: _Server) -> None:
        with self._lock:
            server.at_work -= 1
            self._lock.notify_all()

    # -- requests ------------------------------------------------------------------------------------------------------

    def generate(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Result]:
        most = int(self._concurrency * len(self._servers) * (1 + _WAITING))
        # Nobody waited since the requests before.
        self._last_well = time.monotonic()
        stream, ended, at_work = iter(requests), False, set[Future[Result]]()
        with ThreadPoolExecutor(most) as pool:
            try:
                while at_work or not ended:
                    while not ended and len(at_work) < most:
                        request = next(stream, None)
                        ended = request is None
                        if request is not None:
                            at_work.add(pool.submit(self._answer, request, sampling))
                    if at_work:
                        done, at_work = wait(at_work, return_when=FIRST_COMPLETED)
                        for future in done:
                            yield future.result()
            finally:
                for future in at_work:
                    future.cancel()
                with self._lock:
                    self._closed = self._closed or bool(at_work)
                    self._lock.notify_all()

    def _answer(self, request: Request, sampling: Sampling) -> Result:
        try:
            with one_item("it can't be asked"):
                return self._asked(request, sampling)
        except MediaError as error:
            return failed(request, str(error))

    def _asked(self, request: Request, sampling: Sampling) -> Result:
        body, failures, busy = self._body(request, sampling), 0, 0
        while True:
            server = self._take()
            began = time.perf_counter()
            try:
                answer = self._post(server, body)
                result = result_of(request, answer, (time.perf_counter() - began) / self._concurrency)
            except NoTokens as error:
                if server.proven:
                    failures += 1
                    self._rest(server, str(error))
                else:
                    server.lose(f"its answers have {error}, {_WHAT_FOR}", users=True)
                if failures >= _MOST_TRIES:
                    return failed(request, f"servers failed at it {failures} times ({error})")
                continue
            except NotAResult as error:
                failures += 1
                self._rest(server, str(error))
                if failures >= _MOST_TRIES:
                    return failed(request, f"servers failed at it {failures} times ({error})")
                continue
            except _ServerFailed as error:
                if not server.lost:
                    self._rest(server, str(error), error.after_s)
                failures, busy = failures + error.answered, busy + error.busy
                if failures >= _MOST_TRIES or busy >= _MOST_BUSY:
                    failures = max(failures, busy)
                    return failed(request, f"servers failed at it {failures} times ({error})")
                # Jitter: a server that comes back is not met by all at once.
                time.sleep(random.uniform(0, 0.2))
                continue
            except _RequestRefused as error:
                if sampling.schema and self._takes(
                    server, {**body, "response_format": {"type": "text"}, "max_tokens": 1}
                ):
                    # Without the schema it is taken: then it is the schema, and every request would fail alike.
                    raise UserError(
                        f"{server.url} can't be held to the prompt's json_schema ({error}). Write it more simply."
                    ) from error
                return failed(request, str(error))
            finally:
                self._give_back(server)
            server.failures, server.proven = 0, server.proven or bool(result.token_ids)
            return result

    def _post(self, server: _Server, body: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = self._sent(server, "chat/completions", body)
        except httpx.TimeoutException as error:
            answered = not isinstance(error, httpx.ConnectTimeout)
            if answered:
                self._last_well = time.monotonic()
            raise _ServerFailed("no answer in time", answered=answered) from error
        except httpx.HTTPError as error:
            raise _ServerFailed(first_line(error)) from error
        status, reason = answer.status_code, f"{answer.status_code} {_reason(answer)}"
        if status in _BUSY:
            raise _ServerFailed(reason, busy=True, after_s=retry_after_s(answer))
        if status >= 500 or status == 408:
            raise _ServerFailed(reason, answered=status >= 500, after_s=retry_after_s(answer))
        if status in (401, 403):
            server.lose(_asks_for_a_key(server, answer, self._key), users=True)
            raise _ServerFailed(reason)
        if status == 404:
            # Started anew, it has not been proven to serve what it should.
            server.lose(f"it no longer serves what it was proven to serve ({_reason(answer)}); it is left out")
            raise _ServerFailed(server.last_error)
        if status >= 400 and _TOO_LONG.search(reason):
            raise _RequestRefused(
                f"the clip and its prompt are longer than the model's context ({_reason(answer)}). Lower corpus.frames "
                "or corpus.max_side, or raise models.main.options.max_model_len"
            )
        if status >= 400:
            raise _RequestRefused(f"the server does not take it: {_reason(answer)}")
        try:
            return dict(answer.json())
        except (TypeError, ValueError, RecursionError) as error:
            raise _ServerFailed("its answer is no JSON", answered=True) from error

    def _sent(self, server: _Server, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        """The answer to a call, sent on as the server says. Raises httpx's errors, UserError for another host."""
        for _ in range(_MOST_REDIRECTS):
            answer = self._whole(server, path, body)
            if not answer.is_redirect:
                return answer
            server.address = redirected(server.address, answer, path)
        raise UserError(f"{server.url}: sends on without end. {_NAME_ONE}")

    def _whole(self, server: _Server, path: str, body: dict[str, Any] | None) -> httpx.Response:
        """One answer, read to its end within the time and size that it may take: one that trickles is no answer."""
        gives_up, parts, size = time.monotonic() + self._timeout_s, [], 0
        method = "GET" if body is None else "POST"
        with server.client.stream(method, server.address.of(path), json=body) as answer:
            # Whatever it says, it is there: how often it may fail at a request is counted elsewhere.
            self._last_well = time.monotonic()
            for part in answer.iter_bytes():
                parts.append(part)
                size += len(part)
                if size > _MOST_BYTES:
                    raise httpx.DecodingError(f"an answer of over {_MOST_BYTES} bytes", request=answer.request)
                if time.monotonic() > gives_up:
                    raise httpx.ReadTimeout("the answer does not end", request=answer.request)
        headers = {n: v for n, v in answer.headers.items() if n in ("location", "retry-after", "content-type")}
        return httpx.Response(answer.status_code, headers=headers, content=b"".join(parts), request=answer.request)

    def _takes(self, server: _Server, body: dict[str, Any]) -> bool:
        try:
            self._post(server, body)
        except (_ServerFailed, _RequestRefused):
            return False
        return True

    def _body(self, request: Request, sampling: Sampling) -> dict[str, Any]:
        content, more = _content(replace(request, prompt=self._plain(request.prompt)), packed=not self._near)
        if sampling.schema:
            form = {"name": "reply", "schema": json.loads(sampling.schema), "strict": True}
            more["response_format"] = {"type": "json_schema", "json_schema": form}
        return {
            "model": self._name,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": seed_of(sampling, request.key),
            "logprobs": True,
            "return_token_ids": True,
            **more,
        }

    def parts(self) -> list[_Engine]:
        out = []
        for server in self._servers:
            part = copy.copy(self)
            part._servers = [server]
            out.append(part)
        return out

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._lock.notify_all()
        for server in self._servers:
            server.client.close()


@cache
def _certificates() -> ssl.SSLContext:
    """Whom servers are trusted by. Read once: it takes 40 ms, and a pool has many servers."""
    return httpx.create_ssl_context()


def _content(request: Request, *, packed: bool) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The parts of a request's message, and what its body says of them."""
    parts: list[dict[str, Any]] = []
    more: dict[str, Any] = {}
    clip = request.clip
    if clip is not None and clip.frames_THWC is not None:
        url, kwargs = _encoded(clip, clip.frames_THWC, packed=packed)
        parts.append({"type": "video_url", "video_url": {"url": url}})
        more["media_io_kwargs"] = {"video": kwargs}
    if clip is not None and clip.sound is not None:
        parts.append({"type": "input_audio", "input_audio": {"data": _wav(clip.sound), "format": "wav"}})
    return [*parts, {"type": "text", "text": request.prompt}], more


def _encoded(clip: ClipInput, frames_THWC: NDArray[np.uint8], *, packed: bool) -> tuple[str, dict[str, Any]]:
    """Frames as a data URL, without loss (under the name that vLLM gives to frame sequences, whatever they are), and
    what they are of. ``packed`` is PNG, a third of the bytes for seven times the work; else BMP, for servers on this
    machine."""
    parts = []
    for frame in frames_THWC:
        out = io.BytesIO()
        if packed:
            Image.fromarray(frame).save(out, "PNG", compress_level=1)
        else:
            Image.fromarray(frame).save(out, "BMP")
        parts.append(base64.b64encode(out.getvalue()).decode())
    metadata = clip.metadata()
    kwargs = {name: metadata[name] for name in ("fps", "duration", "total_num_frames", "frames_indices")}
    return "data:video/jpeg;base64," + ",".join(parts), {**kwargs, "num_frames": len(parts), "do_sample_frames": False}


def _wav(samples: NDArray[np.float32]) -> str:
    """A WAV file with 16 bits a sample, as base64."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SOUND_RATE_HZ)
        file.writeframes(np.rint(samples.clip(-1, 1) * 32767).astype("<i2").tobytes())
    return base64.b64encode(out.getvalue()).decode()


def _asks_for_a_key(server: _Server, answer: httpx.Response, key: str) -> str:
    """A line that says which key a server wants and where to put it."""
    if key:
        return f"does not take the key that was sent ({answer.status_code}). Put the right one in its variable"
    return (
        f"asks for a key ({answer.status_code}). Put it in the variable {DEFAULT_KEY} of the environment, "
        "or name another variable in models.main.api_key_env"
    )


def _reason(answer: httpx.Response) -> str:
    """The reason in an answer that refuses, in the server's words."""
    try:
        error = answer.json()
        return str(error.get("error", error).get("message", error))[:300]
    except (ValueError, AttributeError):
        return answer.text[:200] or answer.reason_phrase


def openai(
    model: Path,
    adapter: Path | None,
    servers: Sequence[str],
    name: str = "adapter",
    concurrency: int = 16,
    timeout_s: float = 120.0,
    patience_s: float = 60.0,
    options: Mapping[str, Any] | None = None,
    builder: InputBuilder | None = None,
    api_key_env: str = "",
) -> _Engine:
    """Asks servers at ``servers`` (URLs, with or without ``/v1``), at most ``concurrency`` requests each at a time.

    They get the key in the variable ``api_key_env`` of the environment (OPENAI_API_KEY, where that is set). An answer
    that takes over ``timeout_s`` counts as a failure of its server; where none was well for ``patience_s``, the engine
    gives up (BorderError). Raises UserError where a server serves another model than the folder ``model``.

    ``options`` are for the server that ``flywheel serve`` starts from the same configuration; none is used here. The
    server puts words into the model's template: its marks within them are broken up here, as ``builder`` knows them."""
    plain = builder.plain if builder is not None else Marks().plain
    return _Engine(model, adapter, name, servers, concurrency, timeout_s, patience_s, plain, api_key_env)
