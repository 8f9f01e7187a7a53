"""Hooks for what the docs site has that is no page here: a notebook, the list of decisions, links to the repository.

MkDocs calls these functions by their names (``hooks`` in mkdocs.yml).
"""

from __future__ import annotations

import json
import posixpath
import runpy
import tomllib
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
BUILD = runpy.run_path(str(ROOT / "hatch_build.py"))
VERSION = runpy.run_path(str(ROOT / "flywheel" / "__init__.py"))["__version__"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ADDRESS = BUILD["repository"](PROJECT["tool"]["hatch"]["metadata"]["hooks"]["custom"])
NOTEBOOK, PAGE = ".ipynb", ".md"


def on_config(config: Any) -> Any:
    """Puts the decisions into the navigation, and the repository's address where it is known."""
    config.repo_url = ADDRESS or None
    pages = sorted(Path(config.docs_dir, "decisions").glob("*.md"))
    config.nav.append({"Decisions": [{_heading(page): f"decisions/{page.name}"} for page in pages]})
    return config


def on_files(files: Any, config: Any) -> Any:
    """Puts a page in the place of each notebook."""
    for file in [file for file in files if file.src_uri.endswith(NOTEBOOK)]:
        files.remove(file)
        text = page_of(json.loads(Path(file.abs_src_path).read_text(encoding="utf-8")))
        files.append(File.generated(config, file.src_uri.removesuffix(NOTEBOOK) + PAGE, content=text))
    return files


def on_page_markdown(text: str, page: Any, **_: Any) -> str:
    """The page with links out of the site made links to the repository, or words where that has no address."""
    folder = posixpath.dirname(page.file.src_uri)

    def place(path: str, picture: bool) -> str:
        target = posixpath.normpath(posixpath.join("docs", folder, path.partition("#")[0]))
        if target.startswith("docs/") and Path(ROOT, target).is_file():
            return path.replace(NOTEBOOK, PAGE) if path.endswith(NOTEBOOK) else path
        return f"{ADDRESS}/{'raw' if picture else 'blob'}/v{VERSION}/{target}" if ADDRESS else ""

    return BUILD["relinked"](text, place)


def page_of(notebook: dict[str, Any]) -> str:
    """The notebook as Markdown: texts, code, and what it gave."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            shown = "".join(output.get("text") or output["data"]["text/plain"]).rstrip()
            parts.append(f"```text\n{shown}\n```")
    return "\n\n".join(parts) + "\n"


def _heading(page: Path) -> str:
    return page.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
