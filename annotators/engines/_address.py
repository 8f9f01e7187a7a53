"""Addresses of OpenAI-compatible servers as people write them, and what a server says of when to come back."""

from __future__ import annotations

import email.utils
import os
import re
import time
from dataclasses import dataclass

import httpx

from flywheel.core.errors import UserError
from flywheel.core.secrets import hide, without_secrets

#: The variable whose value is sent as the key where the configuration names none.
DEFAULT_KEY = "OPENAI_API_KEY"
#: The longest that a server's Retry-After is heeded, seconds.
MOST_RETRY_S = 300.0
_TAIL = re.compile(r"/(?:chat/completions|completions|models|load_lora_adapter)/*\Z")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Address:
    """Where a server's API lies: ``base`` is its URL up to ``/v1``, ``query`` goes along with every request."""

    base: httpx.URL
    query: str = ""

    def of(self, path: str) -> str:
        """The URL of one call, such as ``models``."""
        return f"{self.base}/{path}{'?' + self.query if self.query else ''}"

    def __str__(self) -> str:
        return without_secrets(str(self.base.copy_with(path=re.sub(r"/v1\Z", "", self.base.path) or "/"))).rstrip("/")


def address_of(url: str) -> Address:
    """The address behind a URL with or without ``http://``, ``/v1`` and what people copy after it.

    Raises UserError for what is no address.
    """
    text = url.strip()
    if "://" not in text:
        text = f"http://{text}"
    try:
        parsed = httpx.URL(text)
    except (httpx.InvalidURL, ValueError) as error:
        raise UserError(f"models.main.servers: '{url}' is no address ({error}). Write http://host:8000.") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise UserError(f"models.main.servers: '{url}' is no address of a server. Write http://host:8000.")
    path = _TAIL.sub("", parsed.path.rstrip("/")).rstrip("/")
    path = path if re.search(r"/v\d+\w*\Z", path) else f"{path}/v1"
    query = parsed.query.decode()
    return Address(parsed.copy_with(path=path, query=None, fragment=None), query)


def redirected(address: Address, answer: httpx.Response, path: str) -> Address:
    """Where a server sends on to. Raises UserError, with the address to write, for another host: keys stay here."""
    target = answer.headers.get("location", "")
    try:
        new = httpx.URL(str(answer.request.url)).join(target)
    except (httpx.InvalidURL, ValueError):
        target, new = "", answer.request.url
    there = address_of(str(new))
    if not target or there.base.host != address.base.host or not new.path.rstrip("/").endswith(f"/{path}"):
        where = f" to {without_secrets(str(new))}" if target else ""
        raise UserError(
            f"{address}: sends on{where} ({answer.status_code}). Write that address in models.main.servers."
        )
    return Address(there.base.copy_with(userinfo=address.base.userinfo), there.query or address.query)


def key_of(variable: str) -> str:
    """The API key in a variable of the environment; empty where none is named and the usual one is not set.

    Raises UserError where the variable that is named is not set, or is no variable's name.
    """
    if variable and not _VARIABLE.fullmatch(variable):
        raise UserError(
            "models.main.api_key_env: must be the name of a variable, such as OPENAI_API_KEY. "
            "Put the key itself in that variable, and not into the configuration."
        )
    key = os.environ.get(variable or DEFAULT_KEY, "").strip()
    if variable and not key:
        raise UserError(f"models.main.api_key_env: the variable {variable} is not set. Put the servers' key in it.")
    hide(key)
    return key


def retry_after_s(answer: httpx.Response) -> float | None:
    """Seconds after which a server wants to be asked again, at most :data:`MOST_RETRY_S`; None where it says none."""
    value = answer.headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}(?:\.\d{1,6})?", value):
        return min(MOST_RETRY_S, float(value))
    try:
        return min(MOST_RETRY_S, max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time()))
    except (TypeError, ValueError, OverflowError):
        return None
