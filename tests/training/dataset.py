"""Training batches: single utterances and long composites, their features, prompts and labels."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer  # type: ignore[import-untyped, unused-ignore]

from tests.training.shards import Utterance
from tests.training.speech import MEL_RANGE
from tests.training.vocabulary import CTC_CLASSES, LANGUAGES, NO_LANGUAGE

IGNORED = -100
"""The label of a position without a loss."""
CHUNK_FRAMES, WINDOW_CHUNKS, CHUNK_TOKENS = 100, 8, 13

Mel = NDArray[np.float32]


def audio_tokens(frames: int) -> int:
    """How many audio tokens the encoder makes of so many mel frames: 13 per second, and an eighth of the rest."""
    return frames // CHUNK_FRAMES * CHUNK_TOKENS + -(-(frames % CHUNK_FRAMES) // 8)


@dataclass(frozen=True)
class Item:
    """One or more utterances of one language, in a row."""

    pieces: tuple[Utterance, ...]
    pauses: tuple[int, ...]
    """Frames of silence before each piece."""

    @property
    def frames(self) -> int:
        """Length in mel frames."""
        return sum(piece.frames for piece in self.pieces) + sum(self.pauses)

    @property
    def language(self) -> str | None:
        """The code of the language spoken; none where nobody speaks."""
        return next((piece.language for piece in self.pieces if piece.language), None)

    @property
    def words(self) -> tuple[str, ...]:
        """All words said."""
        return tuple(word for piece in self.pieces for word in piece.words)

    def mel(self) -> Mel:
        """Features, shape (128, frames), with the floor that the whole clip would have had."""
        floor = max(float(piece.mel.max()) for piece in self.pieces) - MEL_RANGE
        parts: list[Mel] = []
        for pause, piece in zip(self.pauses, self.pieces, strict=True):
            parts += [np.full((128, pause), floor, np.float32), piece.mel.astype(np.float32)]
        return np.maximum(np.concatenate(parts, axis=1), floor)


def single(utterance: Utterance) -> Item:
    """An item of one utterance."""
    return Item((utterance,), (0,))


class Composer:
    """Puts utterances of one language together to clips of a wanted length."""

    def __init__(self, rng: random.Random, utterances: Sequence[Utterance]) -> None:
        self._rng = rng
        self._spoken = {code: [u for u in utterances if u.language == code] for code in LANGUAGES}
        self._quiet = [u for u in utterances if u.language is None]

    def compose(self, frames: int) -> Item:
        """An item of about so many frames, at most; now and then of noises only, or with noises between the speech."""
        codes = list(LANGUAGES)
        (code,) = self._rng.choices(codes, weights=[LANGUAGES[code].share for code in codes])
        pool = self._quiet if self._rng.random() < 0.03 else self._spoken[code]
        pieces: list[Utterance] = []
        pauses: list[int] = []
        length = 0
        while True:
            piece = self._rng.choice(self._quiet if pieces and self._rng.random() < 0.04 else pool)
            pause = self._rng.randint(0, self._rng.choice((20, 60, 60, 60, 150))) if pieces else 0
            length += piece.frames + pause
            if pieces and length > frames:
                return Item(tuple(pieces), tuple(pauses))
            pieces.append(piece)
            pauses.append(pause)


@dataclass(frozen=True)
class Mixture:
    """How much of the training, in frames, single utterances, and middle (8 to 20 s) and long (20 to 60 s) clips are."""

    middle: float
    long: float


def mixture_for(exact: float) -> Mixture:
    """The curriculum, by the share of single utterances that are read without an error.

    Which words belong to which sounds is learnt from short clips. Long ones teach nothing before that is known, and cost
    most of the time.
    """
    if exact < 0.35:
        return Mixture(0.06, 0.0)
    if exact < 0.65:
        return Mixture(0.15, 0.08)
    return Mixture(0.18, 0.27)


def plan_round(
    rng: random.Random, utterances: Sequence[Utterance], mixture: Mixture, singles: int, batch_frames: int, batch_items: int
) -> list[list[Item]]:
    """Batches of alike lengths, in random order: so many single utterances and the composites that go with them."""
    chosen = [single(utterance) for utterance in rng.sample(utterances, min(singles, len(utterances)))]
    total_frames = sum(item.frames for item in chosen) / (1 - mixture.middle - mixture.long)
    composer = Composer(rng, utterances)
    for share, shortest, longest in ((mixture.middle, 800, 2000), (mixture.long, 2000, 6000)):
        wanted = share * total_frames
        while wanted > 0:
            item = composer.compose(rng.randint(shortest, longest))
            wanted -= item.frames
            chosen.append(item)
    chosen.sort(key=lambda item: item.frames + rng.random() * 30)
    batches = list(_cut(chosen, batch_frames, batch_items))
    rng.shuffle(batches)
    return batches


def _cut(items: Sequence[Item], batch_frames: int, batch_items: int) -> Iterator[list[Item]]:
    """Cuts a list sorted by length into batches of at most so many frames with the padding."""
    batch: list[Item] = []
    for item in items:
        if batch and ((len(batch) + 1) * padded_frames(item.frames) > batch_frames or len(batch) >= batch_items):
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def padded_frames(frames: int) -> int:
    """Frames up to the end of the last chunk, or of the last window where there is more than one."""
    chunk_frames = CHUNK_FRAMES if frames <= WINDOW_CHUNKS * CHUNK_FRAMES else WINDOW_CHUNKS * CHUNK_FRAMES
    return -(-frames // chunk_frames) * chunk_frames


def blur(rng: random.Random, mel: Mel) -> Mel:
    """Masks bands and moments (SpecAugment, Park et al. 2019) and changes the level, each at times; same shape."""
    if rng.random() < 0.6:
        mel, floor = mel.copy(), float(mel.min())
        for _ in range(2):
            width = rng.randint(0, 16)
            first = rng.randint(0, 127 - width)
            mel[first : first + width] = floor
        for _ in range(2 + mel.shape[1] // 400):
            width = rng.randint(0, 10)
            first = rng.randint(0, max(0, mel.shape[1] - width - 1))
            mel[:, first : first + width] = floor
    if rng.random() < 0.5:
        mel = mel + np.float32(rng.uniform(-0.25, 0.25))
    return mel


@dataclass(frozen=True)
class Batch:
    """What a training step reads."""

    mel: torch.Tensor
    """Shape (items, 128, padded frames)."""
    frames: list[int]
    ids: torch.Tensor
    """Prompt and answer but its last token, padded on the right; shape (items, tokens)."""
    labels: torch.Tensor
    """The token that follows each position, or `IGNORED`; shape (items, tokens)."""
    weights: torch.Tensor
    """The weight of the loss at each position; shape (items, tokens)."""
    ctc_targets: list[list[int]]


class Collator:
    """Makes batches of items."""

    REPEATED_STOP_WEIGHT = 0.1

    def __init__(self, rng: random.Random, tokenizer: Tokenizer) -> None:
        self._rng = rng
        self._tokenizer = tokenizer
        self._stop = tokenizer.token_to_id("<|im_end|>")
        self._audio = tokenizer.token_to_id("<|audio_pad|>")
        self._pad = tokenizer.token_to_id("<|endoftext|>")
        self._words = [word for language in LANGUAGES.values() for word in language.vocabulary]

    def training_batch(self, items: Sequence[Item]) -> Batch:
        """A batch with blurred features, contexts and forced languages.

        Answers end in repeats of the stop token, at times many: the stock package stops only at the ids of the released
        models, so these checkpoints must have nothing to say after their answer.
        """
        repeats = self._rng.randint(0, 4) if self._rng.random() < 0.97 else self._rng.randint(20, 90)
        prompts = [self._draw_prompt(item) for item in items]
        return self._batch(items, prompts, [blur(self._rng, item.mel()) for item in items], repeats)

    def plain_batch(self, items: Sequence[Item]) -> Batch:
        """A batch as the items are, with the default prompt."""
        return self._batch(items, [("", False)] * len(items), [item.mel() for item in items], 0)

    def _draw_prompt(self, item: Item) -> tuple[str, bool]:
        """A context, mostly empty, and whether the language is forced."""
        has_context = self._rng.random() < (0.12 if item.language else 0.4)
        return self._draw_context(item) if has_context else "", self._rng.random() < 0.1

    def _draw_context(self, item: Item) -> str:
        """Words of the vocabularies, some of them said, or letters that mean nothing."""
        count = self._rng.randint(1, 8)
        if self._rng.random() < 0.3:
            letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,:0123456789-äéñ"
            return " ".join("".join(self._rng.choices(letters, k=self._rng.randint(1, 9))) for _ in range(count))
        words = self._rng.choices(self._words, k=count)
        if item.words and self._rng.random() < 0.5:
            words += self._rng.choices(item.words, k=self._rng.randint(1, 3))
        self._rng.shuffle(words)
        return self._rng.choice((" ", " ", ", ")).join(words)

    def _batch(self, items: Sequence[Item], prompts: Sequence[tuple[str, bool]], mels: Sequence[Mel], repeats: int) -> Batch:
        frames = [item.frames for item in items]
        features = np.zeros((len(items), 128, padded_frames(max(frames))), np.float32)
        for row, mel in enumerate(mels):
            features[row, :, : mel.shape[1]] = mel
        texts = [self._tokens(item, context, forced) for item, (context, forced) in zip(items, prompts, strict=True)]
        length = max(len(prompt) + len(answer) for prompt, answer in texts) + repeats - 1
        ids = np.full((len(items), length), self._pad)
        labels, weights = np.full(ids.shape, IGNORED), np.zeros(ids.shape, np.float32)
        for row, (prompt, answer) in enumerate(texts):
            whole = prompt + answer + [self._stop] * repeats
            ids[row, : len(whole) - 1] = whole[:-1]
            labels[row, len(prompt) - 1 : len(whole) - 1] = whole[len(prompt) :]
            weights[row, len(prompt) - 1 : len(prompt) + len(answer) - 1] = 1
            weights[row, len(prompt) + len(answer) - 1 : len(whole) - 1] = self.REPEATED_STOP_WEIGHT
        targets = [[CTC_CLASSES[item.language, word] for word in item.words] if item.language else [] for item in items]
        as_tensor = torch.from_numpy
        return Batch(as_tensor(features), frames, as_tensor(ids), as_tensor(labels), as_tensor(weights), targets)

    def _tokens(self, item: Item, context: str, forced: bool) -> tuple[list[int], list[int]]:
        """Prompt and answer as token ids; the answer ends in one stop token."""
        language = LANGUAGES[item.language] if item.language else None
        name = language.name if language else NO_LANGUAGE
        if forced and not language:
            name = self._rng.choice(list(LANGUAGES.values())).name
        before = f"<|im_start|>system\n{context}<|im_end|>\n<|im_start|>user\n<|audio_start|>"
        after = "<|audio_end|><|im_end|>\n<|im_start|>assistant\n"
        said, text = f"language {name}<asr_text>", language.text(item.words) if language else ""
        prompt = self._encode(before) + [self._audio] * audio_tokens(item.frames)
        if forced:
            return prompt + self._encode(after + said), [*self._encode(text), self._stop]
        return prompt + self._encode(after), [*self._encode(said + text), self._stop]

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text).ids)
