"""A language model plans: it reads what is seen and heard, the figures, what actions there are, and what was tried."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from flywheel.core.errors import UserError
from flywheel.curation.repair.plan import Plan, Step, plan
from flywheel.curation.repair.planners._planner import Case, Tried
from flywheel.kinds import Unusable, cleaned_structure
from flywheel.sound import actions

#: Characters of a description, and of a reason, that are shown.
_MOST_TEXT, _MOST_REASON = 1200, 200
_FAMILIES: tuple[actions.Family, ...] = ("filter", "coordination")

_INSTRUCTION = """\
You decide how the sound of a video clip is to be edited. Most sounds are good: then edit nothing. An edit is kept only
if sound and picture go together better after it (for noise and level: if the sound is clearly cleaner, or as loud as is
usual), and it is always done to the original sound. Choose at most one filter (for noise) and at most one coordination
(for sound that is late, fast, cut or too soft), with values in their ranges. Never repeat a plan that was tried. Answer
as JSON:
{"reason": why, "filter": null or {"action": name, "parameters": {name: value}}, "coordination": the same}"""


def plan_next(case: Case, tried: Sequence[Tried]) -> Plan:
    """The plan that the model of role ``planner`` writes, without steps where it edits nothing.

    Raises UserError, in one line, for a reply that is no plan, and where no model can be asked.
    """
    if case.ask is None:
        raise UserError("planner 'model': there is no model to ask. Name one below models.planner.")
    vain = 0
    for attempt in reversed(tried):
        if attempt.is_plan:
            break
        vain += 1
    return read(case.ask(question(case, tried), schema(), vain))


#: The model that it asks, below ``models:``.
plan_next.role = "planner"  # type: ignore[attr-defined]


def question(case: Case, tried: Sequence[Tried]) -> str:
    """All that the model is told of a clip and of the plans before, oldest first."""
    lines = [
        f"{name}: {json.dumps(' '.join(text.split())[:_MOST_TEXT], ensure_ascii=False)}"
        for name, text in (("SEEN", case.seen), ("HEARD", case.heard))
        if text
    ]
    lines.append(f"FIGURES: {json.dumps(_figures(case))}")
    for family in _FAMILIES:
        named = [name for name in actions.names() if actions.action(name).family == family]
        lines += [f"{family.upper()}S:", *map(_described, named)]
    if tried:
        lines += ["TRIED:", *(json.dumps(_attempt(attempt), ensure_ascii=False) for attempt in tried)]
    return "\n".join([*lines, _INSTRUCTION])


def schema() -> str:
    """The JSON schema of a reply: at most one action of each family, with its parameters in their ranges."""
    edits: dict[str, Any] = {family: {"anyOf": [{"type": "null"}]} for family in _FAMILIES}
    for name in actions.names():
        action = actions.action(name)
        edits[action.family]["anyOf"].append(_form(name, action.parameters))
    reason = {"type": "string", "maxLength": _MOST_REASON}
    return json.dumps(_object({"reason": reason, **edits}))


def read(reply: str) -> Plan:
    """The plan of a reply. Raises UserError, in one line, for what is none."""
    try:
        value = cleaned_structure(reply)[0]
    except Unusable as error:
        raise UserError(f"plan: {_short(error)}.") from error
    if not isinstance(value, dict) or set(value) - {"reason", *_FAMILIES}:
        raise UserError(f"plan: need an object of reason, filter and coordination, got {_short(value)}.")
    steps = []
    for family in _FAMILIES:
        if (edit := value.get(family)) is None:
            continue
        step = _step(family, edit)
        if actions.action(step.action).family != family:
            raise UserError(f"plan: {_short(step.action)} is no {family}.")
        steps.append(step)
    return plan(steps, " ".join(str(value.get("reason", "")).split())[:_MOST_REASON])


def _step(family: str, edit: Any) -> Step:
    if isinstance(edit, dict) and isinstance(edit.get("action"), str) and set(edit) <= {"action", "parameters"}:
        parameters = edit.get("parameters", {})
        if isinstance(parameters, dict):
            return Step(action=edit["action"], parameters=parameters)
    raise UserError(f"plan: {family}: need one action with its parameters, or null, got {_short(edit)}.")


def _figures(case: Case) -> dict[str, Any]:
    """Figures of the sound and its fit to the picture, beside what is usual where they have a usual value."""
    of, usual = asdict(case.measures), case.norms
    fit = of.pop("fit")
    values = {**of, **{f"fit_{name}": value for name, value in fit.items()}}
    values |= {f"usual_{name}": getattr(usual, name) for name in ("level_db", "floor_db", "peak_db")}
    return {name: round(value, 3) for name, value in values.items()}


def _described(name: str) -> str:
    action = actions.action(name)
    ranges = "; ".join(
        f"{key} from {of.low:g} to {of.high:g}{f' {of.unit}' if of.unit else ''}, usually {of.default:g}"
        for key, of in action.parameters.items()
    )
    return f"- {name}: {action.does}{f' ({ranges})' if ranges else ''}"


def _attempt(attempt: Tried) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    if attempt.is_plan:
        for family in _FAMILIES:
            steps = [step for step in attempt.plan.steps if actions.action(step.action).family == family]
            shown[family] = [{"action": step.action, "parameters": dict(step.parameters)} for step in steps]
        shown |= {name: round(value, 3) for name, value in attempt.rewards.items()}
    return {**shown, "refused": attempt.refused or "not refused, but not enough"}


def _form(name: str, parameters: Mapping[str, actions.Range]) -> dict[str, Any]:
    values = {
        key: {
            "type": "integer" if isinstance(of.default, int) else "number",
            "minimum": of.low,
            "maximum": of.high,
        }
        for key, of in parameters.items()
    }
    return _object({"action": {"const": name}, "parameters": _object(values)})


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def _short(value: object) -> str:
    """A value as messages show it, whatever a model wrote."""
    return re.sub(r"\s+", " ", value if isinstance(value, str) else str(value)).rstrip(".")[:120]
