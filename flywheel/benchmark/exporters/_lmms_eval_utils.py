"""What lmms-eval calls of this task: what is shown, what is asked, and how a reply is scored.

It needs the files of its folder and nothing else. A reply is read strictly; one that names no option is wrong.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def _reader() -> Any:
    """The module that reads answers, from the folder beside this file."""
    name = f"answers_of_{HERE.name}"
    if name not in sys.modules:
        folder = HERE / "reading"
        spec: Any = importlib.util.spec_from_file_location(
            name, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        package = importlib.util.module_from_spec(spec)
        sys.modules[name] = package
        spec.loader.exec_module(package)
    return importlib.import_module(f"{name}.answers")


def messages(doc: dict[str, Any]) -> list[dict[str, Any]]:
    """A conversation of one turn: the media of the row, and the question."""
    content = [{"type": kind, "url": str(HERE / doc[kind])} for kind in ("video", "audio") if doc[kind]]
    return [{"role": "user", "content": [*content, {"type": "text", "text": doc["prompt"]}]}]


def visual(doc: dict[str, Any]) -> list[str]:
    """The paths of the row's media, for models that take no conversations."""
    return [str(HERE / doc[kind]) for kind in ("video", "audio") if doc[kind]]


def text(doc: dict[str, Any], lmms_eval_specific_kwargs: Any = None) -> str:
    """The question with its options."""
    return str(doc["prompt"])


def target(doc: dict[str, Any]) -> str:
    """The letter of the right option, or the right answers."""
    return str(doc["answer"])


def results(doc: dict[str, Any], replies: list[str]) -> dict[str, float]:
    """Whether the reply is right, and whether it names no option (1 or 0)."""
    answers = _reader()
    reply = replies[0] if replies else ""
    if doc["options"]:
        place, right = answers.chosen(reply, doc["options"]), doc["key"]
    else:
        place, right = answers.agreed(reply, doc["references"]), 0
    return {"accuracy": float(place == right), "unparsed": float(place == answers.UNPARSED)}
