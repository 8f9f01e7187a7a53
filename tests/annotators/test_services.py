"""Servers of other people: keys, addresses, redirects, waits, and answers that are not as ours are (real HTTP)."""

from __future__ import annotations

import email.utils
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from annotators import Request, Result, Sampling, build
from annotators.engines._address import MOST_RETRY_S, address_of, retry_after_s
from annotators.health import Unhealthy, check
from flywheel.core.errors import BorderError, FlywheelError, UserError
from flywheel.core.secrets import without_secrets
from tests.chat_server import models, reply, serving


def asked(root: Path, *servers: str, count: int = 1, **more: Any) -> list[Result]:
    settings = {"concurrency": 2, "timeout_s": 5.0, "patience_s": 1.0, **more}
    engine = build("openai", model=root, adapter=None, servers=servers, **settings)
    requests = [Request(key=str(i), clip=None, prompt="Describe.") for i in range(count)]
    try:
        return list(engine.generate(requests, Sampling(max_new_tokens=8)))
    finally:
        engine.close()


def test_a_key_is_sent_from_its_variable_and_never_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def answers(path: str, headers: dict[str, str], body: Any) -> tuple[int, dict[str, str], Any]:
        if headers.get("Authorization") != "Bearer s3kr1t-key":
            return 401, {}, {"error": f"Unauthorized: {headers.get('Authorization')}"}
        return 200, {}, models(tmp_path) if path.endswith("models") else reply()

    for name in ("OPENAI_API_KEY", "LAB_KEY"):
        monkeypatch.delenv(name, raising=False)
    with serving(answers) as url:
        with pytest.raises(UserError, match=r"asks for a key .*OPENAI_API_KEY"):
            asked(tmp_path, url)
        with pytest.raises(UserError, match="the variable LAB_KEY is not set"):
            asked(tmp_path, url, api_key_env="LAB_KEY")
        monkeypatch.setenv("OPENAI_API_KEY", "wr0ng-key")
        with pytest.raises(UserError, match="does not take the key") as said:
            asked(tmp_path, url.replace("//", "//me:pa55word@") + "/?key=abc123")
        assert not any(secret in str(said.value) for secret in ("wr0ng-key", "pa55word", "abc123"))
        monkeypatch.setenv("LAB_KEY", "s3kr1t-key")
        assert asked(tmp_path, url, api_key_env="LAB_KEY")[0].text == "A dog runs."
        with pytest.raises(UserError, match="must be the name of a variable") as said:
            asked(tmp_path, url, api_key_env="s3kr1t-key")
        assert "s3kr1t" not in str(said.value)
        assert "s3kr1t" not in str(FlywheelError("the key s3kr1t-key is wrong"))
    assert "wr0ng" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("http://user:pa55@host/x fails", "pa55"),
        ("http://user:p@55@host/x fails", "55"),
        ("https://t0ken@host/x", "t0ken"),
        ("postgresql://u:pa55@h/db", "pa55"),
        ("GET http://h/v1?a=1&api_key=abc&b=2", "abc"),
        ("{'Authorization': 'Bearer abcdefgh'}", "abcdefgh"),
        ("authorization: Basic abcdefgh", "abcdefgh"),
        ("sk-abcdefghijklmnopqrst is no key", "abcdefghijk"),
    ],
)
def test_secrets_are_cut(text: str, secret: str) -> None:
    assert secret not in without_secrets(text)
    assert secret not in str(UserError(text))
    assert without_secrets("a file?x=1 of http://host/a@b") == "a file?x=1 of http://host/a@b"


@pytest.mark.parametrize(
    ("written", "base"),
    [
        ("http://h:8000", "http://h:8000/v1"),
        ("http://h:8000/", "http://h:8000/v1"),
        ("http://h:8000/v1", "http://h:8000/v1"),
        ("http://h:8000/v1/", "http://h:8000/v1"),
        ("h:8000", "http://h:8000/v1"),
        (" http://h/v1/chat/completions ", "http://h/v1"),
        ("https://gate/openai/v1/models", "https://gate/openai/v1"),
        ("http://h/v1?key=x", "http://h/v1"),
    ],
)
def test_addresses(written: str, base: str) -> None:
    assert str(address_of(written).base) == base


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_followed_on_the_same_host_alone(tmp_path: Path, status: int) -> None:
    def there(path: str, headers: dict[str, str], body: Any) -> tuple[int, dict[str, str], Any]:
        return 200, {}, models(tmp_path) if path == "/new/v1/models" else reply()

    with serving(there) as target:
        with serving(lambda p, h, b: (status, {"Location": f"{target}/new{p}"}, {})) as url:
            assert asked(tmp_path, f"{url}/v1")[0].text == "A dog runs."
        elsewhere = {"Location": "https://elsewhere.example/v1/models"}
        with (
            serving(lambda p, h, b: (status, elsewhere, {})) as url,
            pytest.raises(UserError, match=r"sends on to https://elsewhere\.example/v1/models"),
        ):
            asked(tmp_path, url)
        with (
            serving(lambda p, h, b: (status, {"Location": p}, {})) as url,
            pytest.raises(UserError, match="without end"),
        ):
            asked(tmp_path, url)


@pytest.mark.parametrize("status", [429, 503, 529])
@pytest.mark.slow
def test_a_busy_server_is_asked_again_when_it_says(tmp_path: Path, status: int) -> None:
    calls: list[float] = []

    def answers(path: str, headers: dict[str, str], body: Any) -> tuple[int, dict[str, str], Any]:
        if path.endswith("models"):
            return 200, {}, models(tmp_path)
        calls.append(time.monotonic())
        waits = {1: "1", 2: "soon", 3: "0"}
        return (status, {"Retry-After": waits[len(calls)]}, {}) if len(calls) in waits else (200, {}, reply())

    with serving(answers) as url:
        assert asked(tmp_path, url, patience_s=3.0)[0].finish == "stop", "being busy is no fault of the request"
    assert calls[1] - calls[0] >= 1.0
    assert len(calls) == 4


def test_when_to_come_back() -> None:
    def said(value: str) -> float | None:
        return retry_after_s(httpx.Response(429, headers={"Retry-After": value}))

    later = email.utils.formatdate(time.time() + 60, usegmt=True)
    assert said(later) == pytest.approx(60, abs=3)
    assert said(email.utils.formatdate(time.time() - 60, usegmt=True)) == 0.0
    assert (said("2"), said("99999"), said("soon"), said("-1"), said("")) == (2.0, MOST_RETRY_S, None, None, None)


def once(tmp_path: Path, body: Any, headers: dict[str, str] | None = None, **more: Any) -> Result:
    def answers(path: str, _: dict[str, str], __: Any) -> tuple[int, dict[str, str], Any]:
        return (200, {}, models(tmp_path)) if path.endswith("models") else (200, headers or {}, body)

    with serving(answers) as url:
        return asked(tmp_path, url, patience_s=20.0, **more)[0]


def test_contents_of_other_makes(tmp_path: Path) -> None:
    parts = [
        {"type": "thinking", "thinking": "hm"},
        {"type": "text", "text": "A dog "},
        {"type": "text", "text": "runs."},
    ]
    assert once(tmp_path, reply(parts)).text == "A dog runs."
    thoughtful = {"role": "assistant", "content": "A dog runs.", "reasoning_content": "I see a dog."}
    assert check(once(tmp_path, reply(message=thoughtful))).text == "A dog runs."
    for message, name in (
        ({"content": None}, "empty"),
        ({"content": None, "reasoning_content": "I think so"}, "empty"),
        ({"content": None, "tool_calls": [{"function": {"name": "f"}}]}, "tool call"),
        ({"content": None, "refusal": "I'm sorry, I can't assist with that."}, "refusal"),
    ):
        with pytest.raises(Unhealthy) as found:
            check(once(tmp_path, reply(message=message)))
        assert found.value.name == name
    assert once(tmp_path, reply(finish_reason="max_tokens")).finish == "length"
    assert once(tmp_path, reply(finish_reason="eos")).finish == "stop"
    assert "filter" in once(tmp_path, reply(finish_reason="content_filter")).text


@pytest.mark.parametrize("missing", [{"token_ids": None}, {"logprobs": None}, {"token_ids": None, "logprobs": None}])
def test_a_server_without_tokens_is_one_line_at_once(tmp_path: Path, missing: dict[str, Any]) -> None:
    began = time.monotonic()
    with pytest.raises(UserError, match=r"its answers have no (token ids|log-probs).*'flywheel serve'"):
        once(tmp_path, reply(**missing), timeout_s=5.0)
    assert time.monotonic() - began < 5


def test_another_model_and_no_server_are_named(tmp_path: Path) -> None:
    listed = {"data": [{"id": "llama", "root": "meta/llama"}, {"id": "qwen"}]}
    with (
        serving(lambda p, h, b: (200, {}, listed)) as url,
        pytest.raises(UserError, match="serves meta/llama, qwen, not"),
    ):
        asked(tmp_path, url)
    with serving(lambda p, h, b: (404, {}, b"no")) as url, pytest.raises(UserError, match="has no /v1/models"):
        asked(tmp_path, url)
    with (
        serving(lambda p, h, b: (200, {}, {"data": None})) as url,
        pytest.raises(BorderError, match="no server answer"),
    ):
        asked(tmp_path, url)


def test_a_clip_that_is_too_long_says_what_to_lower(tmp_path: Path) -> None:
    def answers(path: str, _: dict[str, str], __: Any) -> tuple[int, dict[str, str], Any]:
        said = {"error": {"message": "This model's maximum context length is 4096 tokens, however you requested 9000."}}
        return (200, {}, models(tmp_path)) if path.endswith("models") else (400, {}, said)

    with serving(answers) as url:
        result = asked(tmp_path, url)[0]
    assert result.finish == "error"
    assert "Lower corpus.frames" in result.text
