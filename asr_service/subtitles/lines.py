"""The lines of one cue: one where it fits, else the two that read best."""

from __future__ import annotations

from collections.abc import Sequence

from asr_service.subtitles.atoms import Atom, line_columns, line_of
from asr_service.subtitles.pieces import Break
from asr_service.subtitles.rules import CueRules

# Beside the difference of the lines' lengths in columns, which is below 100: no word that leans on the next ends a line where
# another split fits. Between words, punctuation and what opens a clause are worth
# a difference of a few columns.
_SPLIT_COST = {
    Break.SENTENCE: 0,
    Break.CLAUSE: 4,
    Break.PHRASE: 8,
    Break.WORD: 12,
    Break.BOUND: 200,
    Break.INSIDE: 400,
}


def can_hold(atoms: Sequence[Atom], rules: CueRules) -> bool:
    """Whether they fit in one cue. Every atom fits in a line."""
    n_lines, width = 1, 0
    for at, atom in enumerate(atoms):
        if at > 0 and width + atom.full_columns > rules.max_line_chars:
            n_lines += 1
            width = 0
        width += atom.full_columns if width else atom.columns
    return n_lines <= rules.max_lines


def lines_of(atoms: Sequence[Atom], rules: CueRules) -> tuple[str, ...]:
    """What one cue can hold, as its lines."""
    limit = rules.max_line_chars
    total = line_columns(atoms)
    if total <= limit:
        return (line_of(atoms),)
    best: tuple[int, int] | None = None
    first = atoms[0].columns
    for k in range(1, len(atoms)):
        second = total - first - atoms[k].has_space
        if first <= limit and second <= limit:
            cost = abs(first - second) + _SPLIT_COST[atoms[k - 1].after]
            best = min(best or (cost, k), (cost, k))
        first += atoms[k].full_columns
    if best is None:
        raise ValueError("more than one cue can hold")
    return line_of(atoms[: best[1]]), line_of(atoms[best[1] :])
