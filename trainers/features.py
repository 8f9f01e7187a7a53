"""Whether a training keeps what its frozen vision tower makes of the clips."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING

from flywheel.core.border import one_item
from flywheel.core.errors import MediaError
from flywheel.core.progress import say
from flywheel.models.features import KeptFeatures, kept_features
from flywheel.models.inputs import InputBuilder, InputRow
from flywheel.models.load import Vlm
from trainers.data import TrainingSet
from trainers.examples import columns_of
from trainers.ranks import this_rank

if TYPE_CHECKING:
    from trainers.training import TrainingPlan

#: Rows at most that are tried for two whose clips can be read.
_TRIED = 16
#: Rows at most that are read to count their clips: a second's work.
_COUNTED = 20_000


def features_for(
    vlm: Vlm, builder: InputBuilder, parts: Iterable[TrainingSet | None], plan: TrainingPlan, label: str
) -> KeptFeatures | None:
    """The keeper of the features of these parts' clips; None where they are to be computed at every step."""
    # Under DeepSpeed a layer's weights may be on all ranks, which must then go through it together.
    if plan.features_bytes == 0 or plan.deepspeed is not None:
        return None
    shown = [part for part in parts if part is not None and part.examples]
    some = list(islice(_readable(shown[0], builder), 2))
    num_clips = _num_clips(shown)
    kept, total = kept_features(vlm.model, some, num_clips, most_bytes=plan.features_bytes, bf16=plan.bf16)
    if this_rank() == 0 and total:
        size = f"{num_clips} clips' vision features take {total / 2**20:.0f} MiB"
        if kept is not None:
            say(f"{label}: {size} and are kept, since the vision tower is frozen.")
        else:
            say(
                f"{label}: {size}, more than there is room for "
                "(corpus.features_gib, shared by the processes of a training): they are computed at every step."
            )
    return kept


def _num_clips(shown: Sequence[TrainingSet]) -> int:
    """The number of clips, or a little more where there are many: those of texts and of pairs are mostly the same."""
    if sum(len(part.examples) for part in shown) > _COUNTED:
        return sum(columns_of(part.examples).num_clips for part in shown)
    return len({example.clip_id for part in shown for example in part.examples})


def _readable(data: TrainingSet, builder: InputBuilder) -> Iterator[InputRow]:
    """Rows of the first clips that can be read."""
    for index in range(min(_TRIED, len(data.examples))):
        example = data.examples[index]
        with suppress(MediaError), one_item():
            prompt = data.prompt_of(example, index, 0)
            yield builder.row(data.input(example.clip_id), prompt, example.text, example.earlier)
