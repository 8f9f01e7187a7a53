"""Names of the models that a server serves, asked without an engine: for checks before any work."""

from __future__ import annotations

from collections.abc import Iterable

import httpx

from annotators.engines._address import DEFAULT_KEY, address_of, key_of
from flywheel.core.errors import BorderError, UserError, first_line
from flywheel.core.secrets import without_secrets

_TIMEOUT_S = 5.0
_MOST_BYTES = 1 << 20
_WAY_ON = "Start it ('flywheel serve', or vllm serve), or mend models.main.servers"


def check_addresses(urls: Iterable[str], api_key_env: str) -> None:
    """Check what is to be written into a configuration. Raises UserError for what is no address, or holds a secret."""
    for url in urls:
        address = address_of(url)
        if address.base.userinfo or without_secrets(url) != url:
            raise UserError(
                f"--url {without_secrets(url)}: holds a key or password, which a file must not. "
                "Put it into a variable of the environment and name that with --api-key-env."
            )
    if api_key_env and not api_key_env.isidentifier():
        raise UserError(
            "--api-key-env: must be the name of a variable, such as OPENAI_API_KEY, and not the key itself."
        )


def served(url: str, api_key_env: str = "") -> list[str]:
    """The models that a server names, each as the folder or id that it was started with.

    Raises BorderError where none answers, UserError for one that wants another key or is no such server.
    """
    address, key = address_of(url), key_of(api_key_env)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with httpx.Client(timeout=_TIMEOUT_S, headers=headers, follow_redirects=False) as client:
            answer = client.get(address.of("models"))
    except httpx.HTTPError as error:
        raise BorderError(f"{address}: does not answer ({first_line(error)}). {_WAY_ON}.") from error
    if answer.status_code in (401, 403):
        raise UserError(f"{address}: {_asks_for_a_key(answer.status_code, key, api_key_env)}.")
    try:
        if len(answer.content) > _MOST_BYTES:
            raise ValueError("its answer is too long")
        models = answer.raise_for_status().json()["data"]
        return [str(model.get("root") or model["id"]) for model in models if not model.get("parent")]
    except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        what = f"{answer.status_code} to /v1/models"
        raise UserError(f"{address}: is no OpenAI-compatible server ({what}). {_WAY_ON}.") from error


def _asks_for_a_key(status: int, key: str, api_key_env: str) -> str:
    if key:
        return f"does not take the key in {api_key_env or DEFAULT_KEY} ({status}). Put the right one there"
    return (
        f"asks for a key ({status}). Put it in the environment, for instance as {DEFAULT_KEY}, "
        "or name its variable in models.main.api_key_env"
    )
