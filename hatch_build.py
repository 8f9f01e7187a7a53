"""What a build adds to the package's metadata: the README with links that lead somewhere, and the addresses.

Where the repository is published stands in one place: ``repository`` below ``[tool.hatch.metadata.hooks.custom]`` in
pyproject.toml, or FLYWHEEL_REPOSITORY_URL, which goes before it. As long as it is published nowhere, the README of a
package has the links' words without the links, and no pictures: a link that leads nowhere helps nobody.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface

_FENCE = re.compile(r"(^```.*?^```[ \t]*$)", re.M | re.S)
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
#: A target that is an address, or a place on the page.
_FOREIGN = re.compile(r"[a-z][a-z0-9+.-]*:|#|//", re.I)


class PublishedReadme(MetadataHookInterface):
    """Gives ``readme`` and ``urls``."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict) -> None:
        """Put both into the ``project`` table."""
        address = repository(self.config)
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": absolute(text, address, metadata["version"])}
        metadata["urls"] = urls(address, metadata["version"]) if address else {}


def repository(config: dict) -> str:
    """The repository's public address, or nothing."""
    return (os.environ.get("FLYWHEEL_REPOSITORY_URL") or config.get("repository", "")).rstrip("/")


def urls(address: str, version: str) -> dict[str, str]:
    """The addresses that a package index shows."""
    files = f"{address}/blob/v{version}"
    return {
        "Source": address,
        "Documentation": f"{files}/docs/index.md",
        "Changelog": f"{files}/CHANGELOG.md",
        "Issues": f"{address}/issues",
        "Security": f"{files}/SECURITY.md",
    }


def absolute(text: str, address: str, version: str, folder: str = "") -> str:
    """The page's text with addresses for paths, which are as seen from ``folder`` of the repository."""

    def published(path: str, picture: bool) -> str:
        place, mark, anchor = path.partition("#")
        target = posixpath.normpath(posixpath.join(folder, place))
        return f"{address}/{'raw' if picture else 'blob'}/v{version}/{target}{mark}{anchor}" if address else ""

    return relinked(text, published)


def relinked(text: str, place: Callable[[str, bool], str]) -> str:
    """The text with each link's path as ``place(path, is a picture)`` has it; where that is empty, without the link."""

    def one(found: re.Match[str]) -> str:
        mark, words, target = found.groups()
        if _FOREIGN.match(target):
            return found[0]
        if new := place(target, bool(mark)):
            return f"{mark}[{words}]({new})"
        return "" if mark else words

    # Every second part is a fenced block, in which nothing is a link.
    parts = _FENCE.split(text)
    return "".join(part if i % 2 else _LINK.sub(one, part) for i, part in enumerate(parts))
