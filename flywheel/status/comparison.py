"""Two rounds side by side, as words for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flywheel.core.foreign import as_lines


def comparison_text(comparison: Mapping[str, Any], min_anchors: int) -> str:
    """A comparison of two rounds as a table for the terminal; with fewer anchors the gate can't tell."""
    a, b = comparison["a"], comparison["b"]
    lines = [f"{'':24} {'round ' + str(a):>26} {'round ' + str(b):>26}"]
    lines += [f"{name:24} {_cell(x):>26} {_cell(y):>26}" for name, (x, y) in comparison["figures"].items()]
    if anchors := comparison["anchors"]:
        change = anchors["difference"]
        interval = f"{change['value']:+.3f} [{change['low']:+.3f}, {change['high']:+.3f}]"
        lines.append(
            f"On {comparison['num_anchors']} anchors round {b} has {interval} word F1 against round {a}: "
            f"p(better) = {anchors['p_better']:.2g}, p(worse) = {anchors['p_worse']:.2g}."
        )
        if comparison["num_anchors"] < min_anchors:
            lines.append(f"That is below the {min_anchors} anchors that the gate asks for (gate.min_anchors).")
    else:
        lines.append("No corrected anchors that both wrote of: nothing can be tested.")
    if (chosen := comparison.get("preference")) is not None:
        lines.append(_choices(chosen, b))
    if (facts := comparison.get("facts")) is not None:
        lines.append(_facts(facts, b))
    if (qa := comparison.get("qa")) is not None:
        lines.append(_questions(qa))
    if (start := comparison.get("head_start")) is not None:
        nearer = f"{start['value']:+.3f} [{start['low']:+.3f}, {start['high']:+.3f}] nearer"
        lines.append(
            f"A text that people saw first is {nearer} to what they wrote than one that they had not seen (word F1, "
            "anchors): so much do edits favour who wrote it."
        )
    equal, shared = comparison["equal_texts"], comparison["shared_texts"]
    lines.append(f"{equal} of {shared} texts are the same. Those that differ most:")
    for text in comparison["texts"]:
        lines += [f"  {text['uri'].rsplit('/', 1)[-1]}", f"    {a}: {text['a']}", f"    {b}: {text['b']}"]
    return as_lines(lines)


def _choices(chosen: Mapping[str, Any], b: int) -> str:
    """People's blind choices in a line."""
    won = chosen["win_rate"]
    share = f"{won['value']:.0%} [{won['low']:.0%}, {won['high']:.0%}]"
    return (
        f"On {won['n']} videos people chose round {b}'s text {share} of the time, ties as half: evidence "
        f"{chosen['e_value']:.3g} that it is better, {chosen['e_value_worse']:.3g} that it is worse; "
        f"{chosen['seconds_per_choice']:.1f} s a choice."
    )


def _questions(qa: Mapping[str, Any]) -> str:
    """What was answered from captions alone, in a line."""
    d = qa["accuracy"]["difference"]
    return (
        f"From captions of {qa['clips']} anchor clips alone {qa['a']['accuracy']['value']:.0%} and "
        f"{qa['b']['accuracy']['value']:.0%} of {qa['questions']} questions were answered rightly, "
        f"by video in the mean {d['value']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}]; not answered: "
        f"{qa['a']['unanswered']['value']:.0%} and {qa['b']['unanswered']['value']:.0%}."
    )


def _facts(facts: Mapping[str, Any], b: int) -> str:
    """The comparison of facts in a line."""
    changes = [(name, facts[name]["difference"]) for name in ("f1", "precision") if facts[name] is not None]
    said = ", ".join(f"{name} {d['value']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}]" for name, d in changes)
    unsure = f"; of {facts['unsure']} clips the judge can't tell" if facts["unsure"] else ""
    return (
        f"By the facts that models.{facts['judge']} compared on {facts['clips']} anchor clips, round {b} has {said}"
        f"{unsure}."
    )


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
    return f"{value:.4g}"
