"""Who is in force: testing a round's model against the champion, putting it in its place, going back,
setting rounds side by side.

A champion is a unit: a round's model and adapter by their hashes, its configuration,
and the data of its round as it was.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from typing import Any

import polars as pl
import yaml

from annotators.asking import costs_of
from flywheel.core.errors import BorderError, UserError
from flywheel.core.types import CAPTION, MEASURE, Clip, content_id
from flywheel.metrics import token_f1
from flywheel.metrics.paired import paired_test
from flywheel.models.load import folder_digest
from flywheel.rounds.choices import first_choices, pair_suspects, preferred
from flywheel.rounds.context import RoundContext
from flywheel.rounds.facts import clip_facts, measure_facts
from flywheel.rounds.facts_view import compared_facts
from flywheel.rounds.figures import GROUPS
from flywheel.rounds.gate import Candidate, Judgement, diversity_change, judge
from flywheel.rounds.head_start import head_start
from flywheel.rounds.measures import FactsBeside
from flywheel.rounds.progress import last_resplit
from flywheel.rounds.qa import answers_beside, compared_answers, measure_answers
from flywheel.store import Workspace
from human_refine.effort import effort
from human_refine.gold import gold_texts
from human_refine.people import excluded, leads


def unit(context: RoundContext, round: int) -> dict[str, str]:
    """Hashes of what a round's champion consists of: weights, adapter (empty without one), configuration."""
    model, adapter = context.checkpoint(round)
    config = yaml.safe_dump(context.config.model_dump(mode="json"), sort_keys=True)
    return {
        "model": folder_digest(model),
        "adapter": folder_digest(adapter) if adapter is not None else "",
        "config": content_id(config),
    }


def verify(context: RoundContext) -> None:
    """That the champion's files are those that were promoted. Raises BorderError where they are gone or changed."""
    rows = context.workspace.champions()
    if not rows or rows[-1]["round"] == 0 or "model" not in rows[-1]:
        return
    row = rows[-1]
    round = row["round"]
    now = unit(context, round)
    for what in ("model", "adapter"):
        if now[what] != row[what]:
            folder = context.workspace.model_folder(round) / what
            state = "is gone" if not folder.is_dir() and row[what] else "changed since it was promoted"
            raise BorderError(
                f"{folder}: the champion's {what} {state} "
                f"(hash {now[what] or 'none'}, promoted {row[what] or 'none'}). "
                "Restore it, or go back with 'flywheel rollback'."
            )


def writer_of(context: RoundContext) -> int:
    """Whose model writes this round's texts: the champion's, or the one that ``annotate.by`` names. Raises UserError
    where there is no such model, BorderError where its files are gone or are not those that wrote before."""
    by = context.config.annotate.by
    if by == "champion":
        verify(context)
        return context.workspace.champion()
    if by and context.workspace.stage(by, "evaluate")[0] != "done":
        raise UserError(
            f"annotate.by: round {by} has no evaluated model. 0 is the base; 'flywheel status' lists the rounds."
        )
    if by:
        _check_split(context.workspace, by, "annotate.by")
    if by in context.workspace.retired():
        raise UserError(f"annotate.by: round {by} was taken back, and what it writes is not used. Name another round.")
    if stale := _stale(context, by):
        raise BorderError(
            f"{context.workspace.model_folder(by)}: its {stale} is gone or not what wrote round {by}'s texts. "
            "Restore it, or change annotate.by."
        )
    return by


def _check_split(workspace: Workspace, round: int, where: str) -> None:
    """Raise UserError for a model that learned from clips that measure since the corpus was split anew."""
    if 0 < round <= last_resplit(workspace):
        raise UserError(
            f"{where}: the corpus was split anew after round {round}, whose model learned from clips that measure now. "
            f"Rounds from {last_resplit(workspace) + 1} on can be named."
        )


def candidate_of(context: RoundContext, round: int) -> Candidate:
    """A round's model beside the champion on today's anchors;
    the champion's texts of them are written where they are missing."""
    workspace, settings = context.workspace, context.config
    champion, texts = workspace.champion(), context.texts()
    anchors = dict(sorted(texts.anchors().items()))
    clips = [context.clips[c] for c in anchors]
    by_choices = "preference" in settings.gate.measures
    # People choose between texts of anchors, and questions are asked, whether or not anybody corrected them.
    by_answers = "qa" in settings.gate.measures
    compares = by_choices or by_answers or bool(settings.review.compare)
    asked_of: Collection[Clip] = context.split("anchor") if compares else clips
    if compares or len({c.content_hash for c in clips}) >= settings.gate.min_anchors:
        for which in (round, champion):
            context.ask(asked_of, by=which, round=which, purpose=MEASURE)
    scores, (after, before) = _measured(context, (round, champion), anchors)
    spent = [costs_of(workspace, w, CAPTION, MEASURE).get("tokens_out_per_kept_row", 0.0) for w in (round, champion)]
    asked = len(context.split("test")) + len(asked_of)
    failed = workspace.rejected(round=round, open_only=True).filter(
        (pl.col("stage") == "annotate") & (pl.col("purpose") == MEASURE)
    )
    names = {c.id: c.refiner for c in workspace.correction_records()}
    choices = first_choices(context, champion, round) if by_choices else []
    facts = None
    if "facts" in settings.gate.measures:
        for which in (round, champion):
            measure_facts(context, which)
        facts = FactsBeside.of(clip_facts(context, round), clip_facts(context, champion))
    answers = None
    if by_answers:
        for which in (round, champion):
            measure_answers(context, which)
        answers = answers_beside(context, round, champion)
    return Candidate(
        facts=facts,
        answers=answers,
        after=scores[0],
        before=scores[1],
        groups=[c.content_hash for c in clips],
        refiners=frozenset(names[i] for c in anchors for i in texts.human[c].corrections if i in names),
        diversity=diversity_change(
            after,
            before,
            segment_tokens=settings.evaluate.diversity_tokens,
            resamples=settings.evaluate.resamples,
            seed=settings.evaluate.seed,
        )
        if after
        else None,
        rejected=failed["clip_id"].n_unique() / asked if asked else 0.0,
        cost=spent[0] / spent[1] if all(spent) else 1.0,
        stale=_stale(context, round),
        suspects=suspects(workspace, settings.gate.min_gold_accuracy)
        | (pair_suspects(workspace, settings.gate.min_gold_accuracy) if by_choices else {}),
        choices=[c.outcome for c in choices],
        choosers=frozenset(c.refiner for c in choices),
        possible=context.split("anchor").columns("content_hash")["content_hash"].n_unique(),
    )


def _measured(
    context: RoundContext, rounds: tuple[int, int], anchors: Mapping[str, str]
) -> tuple[list[list[float]], list[list[str]]]:
    """Two rounds' scores on the anchors, and their texts of the test clips of which both wrote, by the clips' ids.

    Frames and not dictionaries, one round's after the other: a million clips have hundreds of thousands of these texts.
    """
    scores, shared = list[list[float]](), context.split("test").columns("id").sort("id")
    for name, round in zip(("after", "before"), rounds, strict=True):
        measured = context.workspace.texts(round, MEASURE, "clip_id", "text")
        scores.append(_scores(measured, anchors))
        of_clips = measured.unique("clip_id", keep="last").rename({"text": name})
        shared = shared.join(of_clips, left_on="id", right_on="clip_id", how="inner", maintain_order="left")
        del measured, of_clips
    return scores, [shared[name].to_list() for name in ("after", "before")]


def _scores(written: pl.DataFrame, anchors: Mapping[str, str]) -> list[float]:
    """Token F1 of the texts of anchors' clips with people's; 0 of a clip without a text."""
    ids = pl.Series(list(anchors), dtype=pl.String)
    texts = dict(written.filter(pl.col("clip_id").is_in(ids.implode())).iter_rows())
    return [token_f1(texts.get(clip_id, ""), text) for clip_id, text in anchors.items()]


def _evaluations(workspace: Workspace, round: int) -> dict[str, str]:
    return dict(workspace.texts(round, MEASURE, "clip_id", "text").iter_rows())


def _stale(context: RoundContext, round: int) -> str:
    """Which of a round's files is no longer what wrote its texts;
    empty where all are, and where a fake engine wrote."""
    workspace, made = context.workspace, pl.DataFrame(schema={"model": pl.String, "adapter": pl.String})
    for written in workspace.annotation_batches(["generation_id"], round=round, kind=CAPTION, purpose=MEASURE):
        some = workspace.records.rows("generations", written["generation_id"], ["model", "adapter"])
        made = pl.concat([made, some]).unique()
    if made.is_empty() or "fake" in set(made["model"]):
        return ""
    now = unit(context, round)
    return ", ".join(what for what in ("model", "adapter") if set(made[what]) - {now[what]})


def suspects(workspace: Workspace, least: float) -> dict[str, str]:
    """Refiner -> why that one is not to be trusted: surely (95 %, exact) less right on gold than ``least`` and on the
    mean no nearer to it than what was shown, or agreeing with the others far less (by .2 of word F1, and at a hundredth
    over all refiners) than they do among themselves. Who is excluded is not asked of."""
    found = {}
    rows = effort(workspace).refiners
    for row in rows:
        gold, peers = row.gold, row.peers
        if peers is not None and peers.others - peers.value > 0.2 and peers.p_value < 0.01 / len(rows):
            found[row.refiner] = (
                f"agrees with others by {peers.value:.2f} on {peers.shared} shared texts, "
                f"the others among themselves by {peers.others:.2f} "
                f"('flywheel exclude {row.refiner}' leaves that one's words out)"
            )
        # Who words it otherwise than the lead still comes nearer to gold than what was shown;
        # who does not look does not.
        if gold is not None and gold.high < least and (gold.f1 or 0.0) <= gold.f1_before:
            found[row.refiner] = (
                f"had {gold.right} of {gold.seen} gold items right, at most {gold.high:.0%} by the 95 % interval, "
                f"{least:.0%} are asked for (gate.min_gold_accuracy; "
                f"'flywheel exclude {row.refiner}' leaves that one's words out)"
            )
    return found


#: The digest of a look at choices, which is one however often one looks: their evidence may be seen at any time.
_CHOICES = "choices"


def tested(context: RoundContext, round: int) -> Judgement:
    """The gate's judgement of a round today.
    The same candidate on the same anchors is one look, however often it is asked of."""
    workspace, settings = context.workspace, context.config
    candidate = candidate_of(context, round)
    champion = workspace.champion()
    if candidate.choices:
        workspace.ledger.add_look(champion, round, _CHOICES)
    # By the champion, also one that came back by a rollback: its budget is spent once.
    look = 1
    answers = candidate.answers
    videos = max(len(set(candidate.groups)), 0 if answers is None else answers.videos)
    if videos >= settings.gate.min_anchors:
        # Before the verdict: a look whose outcome somebody saw must have been counted.
        facts = candidate.facts
        seen = [] if facts is None else [[clip.f1 for clip in clips] for clips in (facts.after, facts.before)]
        if answers is not None:
            seen += [[clip.accuracy for clip in clips] for clips in (answers.after, answers.before)]
        digest = content_id(list(candidate.after), list(candidate.before), *seen)
        look = workspace.ledger.add_look(champion, round, digest)
        # Looks at choices spend nothing of the budget of those at scores.
        look -= sum(what == _CHOICES for _, what in workspace.ledger.looks(champion)[:look])
    looks = workspace.ledger.looks(champion)
    tried = list(dict.fromkeys(candidate_round for candidate_round, _ in looks))
    if round in tried:
        candidate = replace(candidate, number=tried.index(round) + 1)
    return judge(candidate, settings.gate, look, resamples=settings.evaluate.resamples)


def freeze(context: RoundContext, round: int) -> None:
    """Keep the data of a round as it is now."""
    workspace = context.workspace
    workspace.freeze(round, leads=leads(workspace), gold=gold_texts(workspace), excluded=excluded(workspace))


def put_in_force(context: RoundContext, round: int, reason: str, action: str = "promote", **more: Any) -> None:
    """One row makes the round's model, hashes and all, the champion; the tracker hears of it after."""
    context.workspace.promote(round, reason, action=action, details={**unit(context, round), **more})
    context.tracker.champion(round)


def promote(context: RoundContext, round: int, force: str = "") -> Judgement | None:
    """Promote a round that passes the gate today, or with a reason ``force`` whatever the gate would say;
    the caller holds the lock.

    Returns the gate's judgement (None when forced). Raises UserError for a round that can't be champion.
    """
    workspace = context.workspace
    if workspace.stage(round, "evaluate")[0] != "done" or round < 1:
        raise UserError(f"promote {round}: this round has no evaluated model. 'flywheel status' says where it stands.")
    if workspace.champion() == round:
        raise UserError(f"promote {round}: it is the champion already.")
    _check_split(workspace, round, f"promote {round}")
    if stale := _stale(context, round):
        raise UserError(
            f"promote {round}: its {stale} is gone or not what wrote its texts. "
            f"Restore {workspace.model_folder(round)}."
        )
    freeze(context, round)
    if force:
        put_in_force(context, round, f"forced: {force}", forced=True)
        return None
    judgement = tested(context, round)
    if judgement.verdict == "promoted":
        put_in_force(context, round, judgement.reason, judgement=judgement.record())
    return judgement


def rollback(context: RoundContext, reason: str = "", to: int | None = None) -> int:
    """Put the champion before this one, or round ``to`` of those that were, in force again; returns it.
    The caller holds the lock.

    Raises UserError where there is none, or its files are not what they were.
    """
    workspace = context.workspace
    lineage = workspace.lineage()
    if len(lineage) < 2:
        raise UserError("rollback: already on the base model; nothing to roll back to.")
    target = lineage[-2] if to is None else to
    if target not in lineage[:-1]:
        raise UserError(
            f"rollback: round {target} was not in use before this one; {', '.join(map(str, lineage[:-1]))} were. "
            f"To use it anyway: flywheel promote {target} --force WHY."
        )
    was = next((row for row in reversed(workspace.champions()) if row["round"] == target and "model" in row), None)
    now = unit(context, target)
    if target and was is not None and any(now[what] != was[what] for what in ("model", "adapter")):
        raise UserError(
            f"rollback: the files of round {target} are gone or changed since it was promoted. "
            f"Restore {workspace.model_folder(target)}."
        )
    put_in_force(context, target, reason or f"back from round {lineage[-1]}", "rollback")
    return target


#: What the names of folders begin with whose weights are being deleted.
_PRUNED = ".pruned-"


def prune(context: RoundContext, keep: int, *, dry_run: bool = False) -> list[int]:
    """Delete the weights of old rounds, their records never: kept are the champion, the model that ``annotate.by``
    names, the ``keep`` before it that a rollback could go to, and the last ``keep`` rounds; returns whose weights went.
    The caller holds the lock."""
    workspace = context.workspace
    lineage = [r for r in workspace.lineage() if r]
    last = [r for r in workspace.rounds() if r][-keep:] if keep else []
    by = context.config.annotate.by
    needed = {
        *lineage[-(keep + 1) :],
        *last,
        *([by] if by != "champion" else []),
        *([workspace.rounds()[-1]] if workspace.rounds() else []),
    }
    gone = [r for r in workspace.rounds() if r and r not in needed and workspace.model_folder(r).exists()]
    if not dry_run:
        # What one that was killed had begun to delete.
        for doomed in workspace.model_folder(0).parent.glob(f"{_PRUNED}*"):
            shutil.rmtree(doomed)
    for round in [] if dry_run else gone:
        # Renamed first: half a model must never look like one.
        doomed = workspace.model_folder(round).with_name(f"{_PRUNED}{round:03d}")
        workspace.model_folder(round).rename(doomed)
        shutil.rmtree(doomed)
    return gone


def compare(context: RoundContext, a: int, b: int) -> dict[str, Any]:
    """Rounds ``a`` and ``b`` side by side:
    each figure with its interval, anchors and, clip by clip, the texts that differ most."""
    workspace = context.workspace
    if a == b:
        raise UserError(f"compare {a} {b}: is one round. Name two.")
    evaluated = [round for round in workspace.rounds() if workspace.stage(round, "evaluate")[0] == "done"]
    for round in (a, b):
        if round not in evaluated:
            others = f"Those of {', '.join(map(str, evaluated))} are there" if evaluated else "No round has any yet"
            raise UserError(f"compare: round {round} has no figures. {others}; 'flywheel round' measures the next.")
    # The base's figures are of today's split.
    if len({round == 0 or round > last_resplit(workspace) for round in (a, b)}) > 1:
        raise UserError(f"compare {a} {b}: the corpus was split anew between them; their figures are of other clips.")
    measured = {r: workspace.stage(r, "evaluate")[1] for r in (a, b)}
    said = {r: _evaluations(workspace, r) for r in (a, b)}
    if not any(said.values()):
        raise UserError(
            f"compare {a} {b}: neither round wrote about a test or anchor clip; nothing can be compared. "
            "Add videos, or raise corpus.test_share and run 'flywheel resplit'."
        )
    figures = {}
    for group in GROUPS:
        for name in {**measured[a].get(group, {}), **measured[b].get(group, {})}:
            figures[f"{group}/{name}"] = [measured[r].get(group, {}).get(name) for r in (a, b)]
    texts = context.texts()
    anchors = {c: t for c, t in sorted(texts.anchors().items()) if c in said[a] and c in said[b]}
    scores = {r: [token_f1(said[r][c], t) for c, t in anchors.items()] for r in (a, b)}
    test = paired_test(scores[b], scores[a], [context.clips[c].content_hash for c in anchors]) if anchors else None
    start = head_start(texts.shown_anchors(), resamples=context.config.evaluate.resamples)
    shared = sorted((c for c in said[a] if c in said[b]), key=lambda c: (token_f1(said[a][c], said[b][c]), c))
    return {
        "a": a,
        "b": b,
        "champion": workspace.champion(),
        "figures": figures,
        "anchors": None if test is None else asdict(test),
        "num_anchors": len(anchors),
        **preferred(context, a, b),
        **compared_facts(context, a, b),
        **compared_answers(context, a, b),
        **({} if start is None else {"head_start": asdict(start)}),
        "texts": [
            {"clip": c, "uri": context.clips[c].uri, "a": said[a][c], "b": said[b][c]}
            for c in shared[:12]
            if said[a][c] != said[b][c]
        ],
        "equal_texts": sum(said[a][c] == said[b][c] for c in shared),
        "shared_texts": len(shared),
    }
