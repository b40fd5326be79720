"""A segment as atoms: what is never cut, with its time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from asr_service.subtitles.cue import SubtitleSegment
from asr_service.subtitles.pieces import Break, pieces_of
from asr_service.subtitles.places import places_of
from asr_service.subtitles.rules import CueRules
from asr_service.subtitles.script import clean, columns, needs_space


@dataclass(frozen=True, slots=True)
class Atom:
    """`has_space`: a space stands before it, unless it begins a line. `is_after_pause`: nothing was said for long before it."""

    text: str
    columns: int
    has_space: bool
    is_after_pause: bool
    after: Break
    start_ms: int
    end_ms: int
    language: str

    @property
    def full_columns(self) -> int:
        """With the space before it."""
        return self.columns + self.has_space


@dataclass(frozen=True, slots=True)
class Before:
    """What the next segment follows on."""

    atom: Atom
    segment: SubtitleSegment


def atoms_of(segment: SubtitleSegment, rules: CueRules, before: Before | None) -> list[Atom]:
    """None when nothing is said in it. Starts never go back, not behind those before either."""
    words = [word for word in segment.words if clean(word.text)]
    text = clean(segment.text) or _joined([clean(word.text) for word in words])
    free_ms = max(segment.start_ms, before.atom.end_ms) if before is not None else segment.start_ms
    places = places_of(text, words, free_ms, segment.end_ms)
    atoms: list[Atom] = []
    last_ms = before.atom.start_ms if before is not None else 0
    for piece in pieces_of(text, segment.language, rules.max_line_chars):
        within = places[piece.at : piece.at + len(piece.text)]
        start_ms = max(last_ms, within[0][0])
        end_ms = max(start_ms, within[-1][1])
        if atoms:
            has_space = piece.has_space
            is_after_pause = start_ms - atoms[-1].end_ms > rules.pause_threshold_ms
        else:
            has_space = before is None or needs_space(before.atom.text, piece.text)
            is_after_pause = before is None or _is_apart(before, segment, start_ms, rules.pause_threshold_ms)
        width = columns(piece.text)
        atoms.append(Atom(piece.text, width, has_space, is_after_pause, piece.after, start_ms, end_ms, segment.language))
        last_ms = start_ms
    return atoms


def _is_apart(before: Before, segment: SubtitleSegment, start_ms: int, pause_ms: int) -> bool:
    """A pause, as far as is known. Without words only the segments' ends are: detectors leave padding around speech, so those
    that were cut at a pause of their liking are as near as that, and those that were cut in speech touch."""
    if before.segment.words and segment.words:
        return start_ms - before.atom.end_ms > pause_ms
    return segment.start_ms > before.segment.end_ms


def _joined(words: Sequence[str]) -> str:
    return "".join(accumulate(words, lambda left, right: f" {right}" if needs_space(left, right) else right))


def line_of(atoms: Sequence[Atom]) -> str:
    """On one line."""
    return "".join(" " * (atom.has_space and at > 0) + atom.text for at, atom in enumerate(atoms))


def line_columns(atoms: Sequence[Atom]) -> int:
    return sum(atom.full_columns for atom in atoms) - (atoms[0].has_space if atoms else 0)
