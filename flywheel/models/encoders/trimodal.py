"""One transformer for pictures, sounds and words (VLSA, arXiv 2405.07202)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from flywheel.models.encoders._blocks import Blocks, mean_of
from flywheel.models.encoders._contrast import both_present, info_nce, matching, negatives
from flywheel.models.encoders._interface import SOUND, TEXT, VIDEO, Batch, Encoder, Masks, Modality
from flywheel.models.encoders._masked import drawn, told, visible
from flywheel.models.encoders._pictures import patches
from flywheel.models.encoders._spectrogram import SpectrogramShape
from flywheel.models.encoders._words import FIRST_WORD, HIDDEN, PAD

#: Share of words that are hidden (4.2).
_HIDDEN_WORDS = 0.15


class Trimodal(Encoder):
    """A shared encoder, and shared decoder blocks with three heads.

    It learns from two passes of the same weights. On the *joint* pass parts of all three are hidden, and each is told
    from what is left of it and of the other two. On the *isolated* pass each modality is encoded alone, and sound is
    contrasted with pictures and with words, and with ``video_text`` those two with each other, which the paper does not
    do: words then find what is seen and not heard, and clips without sound. The paper's single pass for both lets a
    pair see itself, and learns nothing that finds anything (:mod:`._literal`).
    """

    modalities = (VIDEO, SOUND, TEXT)

    def __init__(
        self,
        *,
        width: int,
        layers: int,
        heads: int,
        decoder_width: int,
        decoder_layers: int,
        frames: int,
        frame_size: int,
        patch: int,
        spectrogram: SpectrogramShape,
        sound_patch: int,
        words: int,
        vocabulary: int,
        temperature: float,
        local_weight: float,
        global_weight: float,
        video_text: bool,
        fused_weight: float,
    ) -> None:
        super().__init__()
        self.pairs = ((SOUND, VIDEO), (SOUND, TEXT), *(((VIDEO, TEXT),) if video_text else ()))
        if frame_size % patch or spectrogram.bands % sound_patch or spectrogram.times % sound_patch:
            raise ValueError("trimodal: need frame_size, bands and times that their patches divide")
        if words < 2 or vocabulary <= FIRST_WORD:
            raise ValueError(f"trimodal: need words >= 2 and a vocabulary above {FIRST_WORD}")
        self.width, self.frames, self.frame_size, self.patch = width, frames, frame_size, patch
        self.spectrogram, self.sound_patch = spectrogram, sound_patch
        self.words, self.vocabulary = words, vocabulary
        self.temperature, self.local_weight, self.global_weight = temperature, local_weight, global_weight
        self.fused_weight = fused_weight
        side = frame_size // patch
        bands, times = spectrogram.bands // sound_patch, spectrogram.times // sound_patch
        self.frame_tokens = side * side
        self.embeds = nn.ModuleDict(
            {
                VIDEO: nn.Linear(patch * patch * 3, width),
                SOUND: nn.Linear(sound_patch * sound_patch, width),
                TEXT: nn.Embedding(vocabulary, width),
            }
        )
        axes: dict[Modality, tuple[int, ...]] = {VIDEO: (frames, side, side), SOUND: (bands, times), TEXT: (words,)}
        self.places = nn.ModuleDict({name: _Places(axes[name], width) for name in self.modalities})
        self.encoder = Blocks(width, heads, layers)
        self.narrow = nn.Linear(width, decoder_width)
        self.hidden_token = nn.Parameter(torch.zeros(decoder_width))
        self.decoder_places = nn.ModuleDict({name: _Places(axes[name], decoder_width) for name in self.modalities})
        self.decoder = Blocks(decoder_width, max(1, decoder_width * heads // width), decoder_layers)
        self.heads = nn.ModuleDict(
            {
                VIDEO: nn.Linear(decoder_width, patch * patch * 3),
                SOUND: nn.Linear(decoder_width, sound_patch * sound_patch),
                TEXT: nn.Linear(decoder_width, vocabulary),
            }
        )
        self.matches = nn.ModuleDict({f"{a}-{b}": nn.Linear(width, 1) for a, b in self.pairs})
        self.apply(_initialise)

    # Tokens.

    def values(self, modality: Modality, tensor: Tensor) -> Tensor:
        """What tokens stand for: patches in [-1, 1], patches of the spectrogram, ids of words."""
        if modality == TEXT:
            return tensor
        numbers = tensor.to(self.hidden_token.dtype)
        if modality == VIDEO:
            return patches(numbers / 127.5 - 1, self.patch).flatten(1, 2)
        return patches(numbers[..., None], self.sound_patch)

    def tokens(self, modality: Modality, values: Tensor) -> Tensor:
        """Embedded tokens (B, N, D) with the places they are at."""
        embedded: Tensor = self.embeds[modality](values) + self.places[modality]()
        return embedded

    def seen(self, modality: Modality, tensor: Tensor) -> Tensor | None:
        """Which tokens are any (B, N); None where all are."""
        return tensor != PAD if modality == TEXT else None

    # The isolated pass.

    def vectors_of(self, modality: Modality, values: Tensor) -> Tensor:
        seen = self.seen(modality, values)
        return mean_of(self.encoder(self.tokens(modality, self.values(modality, values)), seen), seen)

    def contrast(
        self, vectors: Mapping[Modality, Tensor], batch: Batch, generator: torch.Generator
    ) -> dict[str, Tensor]:
        losses = {}
        for pair in self.pairs:
            name, (a, b) = "-".join(pair), (vectors[pair[0]], vectors[pair[1]])
            apart, present = negatives(batch, pair), both_present(batch, pair)
            losses[f"contrast/{name}"] = info_nce(a, b, apart, present, self.temperature)
            losses[f"matching/{name}"] = matching(self.matches[name], a, b, apart, present, generator)
        return losses

    # The joint pass.

    def masks(self, batch: Batch, generator: torch.Generator) -> Masks:
        if not self.local_weight:
            return {}
        size, device = len(batch), batch.text.device
        side = self.spectrogram.bands * self.spectrogram.times // self.sound_patch**2
        frames = drawn((size, self.frames), self.frame_tokens, generator)
        words = torch.rand((size, self.words), generator=generator) < _HIDDEN_WORDS
        # Nothing and the beginning are no words; a text of which no word was drawn gives its first one.
        words &= batch.text.cpu() >= FIRST_WORD
        words[:, 1] |= ~words.any(1) & (batch.text[:, 1].cpu() >= FIRST_WORD)
        masks = {VIDEO: frames.flatten(1), SOUND: drawn((size,), side, generator), TEXT: words}
        return {name: mask.to(device) for name, mask in masks.items()}

    def local(self, batch: Batch, masks: Masks) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = {}
        values = {name: self.values(name, batch.of(name)) for name in self.modalities if masks or self.fused_weight}
        if masks:
            encoded = self._joint(batch, values, masks)
            for name in self.modalities:
                decoded = self.heads[name](self._decoded(name, encoded[name], masks[name], batch))
                losses[f"masked/{name}"] = told(name, decoded, values[name], masks[name]) * batch.present[name]
        if self.fused_weight:
            fused = self._fused(batch, values)
            for name in self.modalities:
                alone = self.vectors_of(name, batch.of(name))
                losses[f"fused/{name}"] = (1 - (alone * fused).sum(-1)) * batch.present[name]
        return losses

    @torch.no_grad()
    def _fused(self, batch: Batch, values: Mapping[Modality, Tensor]) -> Tensor:
        """Unit vectors (B, D) of whole clips, all that they have encoded together: a teacher, without a gradient."""
        tokens = {name: self.tokens(name, values[name]) for name in self.modalities}
        seen = [
            batch.present[name][:, None] & (batch.text != PAD if name == TEXT else tokens[name].new_ones(1, 1).bool())
            for name in self.modalities
        ]
        mask = torch.cat(
            [one.expand(tokens[name].shape[:2]) for name, one in zip(self.modalities, seen, strict=True)], 1
        )
        mask = mask | ~mask.any(1, keepdim=True)
        return mean_of(self.encoder(torch.cat(list(tokens.values()), 1), mask), mask)

    def _joint(self, batch: Batch, values: Mapping[Modality, Tensor], masks: Masks) -> dict[Modality, Tensor]:
        """Encoded tokens that are visible, of each modality; hidden words stay as tokens that say so."""
        tokens, seen = [], []
        for name in self.modalities:
            if name == TEXT:
                shown = self.tokens(name, values[name].masked_fill(masks[name], HIDDEN))
                there = values[name] != PAD
            else:
                shown = visible(self.tokens(name, values[name]), masks[name])
                there = torch.ones(shown.shape[:2], dtype=torch.bool, device=shown.device)
            tokens.append(shown)
            seen.append(there & batch.present[name][:, None])
        # A clip of which nothing is there at all would attend to nothing.
        mask = torch.cat(seen, 1)
        mask = mask | ~mask.any(1, keepdim=True)
        encoded = self.encoder(torch.cat(tokens, 1), mask)
        parts = encoded.split([token.shape[1] for token in tokens], 1)
        return dict(zip(self.modalities, parts, strict=True))

    def _decoded(self, name: Modality, encoded: Tensor, mask: Tensor, batch: Batch) -> Tensor:
        """Decoder states (B, N, D') of all tokens of a modality, in their order."""
        states = self.narrow(encoded)
        if name != TEXT:
            whole = self.hidden_token.expand(*mask.shape, -1).clone()
            whole[~mask] = states.flatten(0, 1)
            states = whole
        decoded: Tensor = self.decoder(states + self.decoder_places[name](), self.seen(name, batch.of(name)))
        return decoded

    def weights(self) -> Mapping[str, float]:
        # The paper sums the contrast's two ways, and the matching of own and made pairs; ours are means of both.
        contrast = {"contrast": 2 * self.global_weight, "matching": 2 * self.global_weight}
        return {"masked": self.local_weight, "fused": self.fused_weight, **contrast}


class _Places(nn.Module):
    """A learned vector for each place along each axis, summed, and one for the modality: (N, D)."""

    def __init__(self, axes: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.kind = nn.Parameter(torch.empty(width))
        self.axes = nn.ParameterList([nn.Parameter(torch.empty(length, width)) for length in axes])
        for vector in (self.kind, *self.axes):
            nn.init.normal_(vector, std=0.02)

    def forward(self) -> Tensor:
        total = self.kind
        for axis in self.axes:
            total = total[..., None, :] + axis
        return total.flatten(0, -2)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)


def trimodal(
    width: int = 64,
    layers: int = 3,
    heads: int = 4,
    decoder_width: int = 32,
    decoder_layers: int = 1,
    frames: int = 4,
    frame_size: int = 64,
    patch: int = 16,
    bands: int = 64,
    times: int = 64,
    sound_patch: int = 16,
    words: int = 24,
    vocabulary: int = 2048,
    temperature: float = 0.07,
    local_weight: float = 1.0,
    global_weight: float = 5.0,
    video_text: bool = True,
    fused_weight: float = 0.0,
) -> Trimodal:
    r"""One encoder for pictures, sounds and words (VLSA); the sizes are a small preset of .5 M parameters.

    The paper's are :data:`PAPER`. ``temperature`` is $\tau$ (not stated there, CLIP's), ``global_weight`` $\lambda$;
    ``local_weight=0`` leaves the joint pass out, ``video_text=False`` the contrast that the paper does not have. With
    ``fused_weight`` each vector is drawn to that of the whole clip, which learns nothing from it (OmniRetriever, arXiv
    2605.26641).
    """
    return Trimodal(
        width=width,
        layers=layers,
        heads=heads,
        decoder_width=decoder_width,
        decoder_layers=decoder_layers,
        frames=frames,
        frame_size=frame_size,
        patch=patch,
        spectrogram=_PAPER_SOUND if (bands, times) == (256, 256) else SpectrogramShape(bands=bands, times=times),
        sound_patch=sound_patch,
        words=words,
        vocabulary=vocabulary,
        temperature=temperature,
        local_weight=local_weight,
        global_weight=global_weight,
        video_text=video_text,
        fused_weight=fused_weight,
    )


_PAPER_SOUND = SpectrogramShape(bands=256, times=256, rate_hz=11_000, window=1022, hop=256)
#: The paper's sizes (4.1); the decoder's are those of TVLT, which it builds on.
PAPER: Mapping[str, int] = {
    "width": 768,
    "layers": 12,
    "heads": 12,
    "decoder_width": 512,
    "decoder_layers": 8,
    "frames": 8,
    "frame_size": 224,
    "patch": 16,
    "bands": 256,
    "times": 256,
    "sound_patch": 16,
    "words": 40,
    "vocabulary": 30_522,
    "video_text": False,
}
