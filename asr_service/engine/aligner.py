"""The seam between those who have a text and want to know when its words were said, and those who can tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from asr_service.decoding.word_scores import word_confidences
from asr_service.engine.protocol import Engine
from asr_service.errors import LanguageUnavailable
from asr_service.languages import Language
from asr_service.request import Hypothesis, Priority, RecognitionOptions, Speech, Word, Work


@dataclass(frozen=True, slots=True)
class AlignerInfo:
    """What an aligner is. `reach_ms`: the longest stretch that it takes at once."""

    name: str
    model: str
    device: str
    languages: tuple[Language, ...]
    reach_ms: int

    def check_language(self, language: Language) -> None:
        """Raises LanguageUnavailable."""
        if language not in self.languages:
            known = ", ".join(known.name for known in self.languages)
            raise LanguageUnavailable(f"language: {self.model} does not align {language.name}; it aligns {known}")


@dataclass(frozen=True, slots=True, eq=False)
class Alignment:
    """A stretch of speech, what is said in it, and how urgent it is. Times are of the monotonic clock; `uid` is unique in the
    process."""

    uid: int
    speech: Speech
    text: str
    language: Language
    priority: Priority
    arrival_s: float
    deadline_s: float | None = None


class Aligner(Protocol):
    """Any number of callers may await it at once, on the event loop; cancelling one cancels its work."""

    @property
    def info(self) -> AlignerInfo: ...

    async def align(self, wanted: Alignment) -> tuple[Word, ...]:
        """The words of the text, punctuation included, in order: end > start, none before the one before it has ended, as
        offsets in the source. Nothing for a text without words.

        Raises LanguageUnavailable, FeatureUnavailable (it cannot be loaded, or lacks a tokeniser), InvalidValue (too long),
        Overloaded, DeadlineExceeded, Unavailable.
        """
        ...


class EngineAligner:
    """Implements Aligner by an engine with Feature.ALIGN."""

    def __init__(self, engine: Engine, *, reach_ms: int) -> None:
        info = engine.info
        self._engine = engine
        self._info = AlignerInfo(info.name, info.model, info.device, info.languages, reach_ms)

    @property
    def info(self) -> AlignerInfo:
        return self._info

    async def align(self, wanted: Alignment) -> tuple[Word, ...]:
        """See Aligner."""
        self._info.check_language(wanted.language)
        work = Work(
            wanted.uid,
            wanted.speech,
            RecognitionOptions(language=wanted.language, word_times=True),
            wanted.priority,
            wanted.arrival_s,
            wanted.deadline_s,
            known_text=wanted.text,
        )
        return (await self._engine.recognize(work)).words


def needs_words(hypothesis: Hypothesis, info: AlignerInfo, speech: Speech) -> bool:
    """Whether there is a text without word times that this aligner can give them to."""
    can = hypothesis.language in info.languages and speech.duration_ms <= info.reach_ms
    return bool(hypothesis.text) and not hypothesis.words and can


async def with_words(aligner: Aligner, work: Work, hypothesis: Hypothesis, arrival_s: float) -> Hypothesis:
    """What was recognised in `work`, with the times of its words where they are wanted, lacking, and can be had. Raises what
    Aligner.align raises."""
    language = hypothesis.language
    if not work.options.word_times or language is None or not needs_words(hypothesis, aligner.info, work.speech):
        return hypothesis
    wanted = Alignment(work.uid, work.speech, hypothesis.text, language, work.priority, arrival_s, work.deadline_s)
    return replace(hypothesis, words=scored(await aligner.align(wanted), hypothesis))


def scored(words: Sequence[Word], hypothesis: Hypothesis) -> tuple[Word, ...]:
    """The words of a text, each with how sure the recogniser is of it, as far as it says."""
    sure = word_confidences(hypothesis.text, hypothesis.token_scores, [word.text for word in words])
    return tuple(replace(word, confidence=confidence) for word, confidence in zip(words, sure, strict=True))
