"""Speech without a long pause, cut into cues: the cheapest way, of all that fit.

What a way costs is the sum over its cues. The weights say what is worse than what, one more cue being 30: to end inside a
word > on a word that leans on the next > between words > before what opens a clause > at punctuation > at a sentence. A cue too
short to read is about as bad as one that ends on a leaning word, a second sentence in a cue as bad as another cue. Full cues
cost a little more than their share, so that what must be parted is parted evenly.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from asr_service.subtitles.atoms import Atom
from asr_service.subtitles.pieces import Break
from asr_service.subtitles.rules import CueRules

_CUE = 30.0
_END = {
    Break.SENTENCE: 0.0,
    Break.CLAUSE: 25.0,
    Break.PHRASE: 42.0,
    Break.WORD: 60.0,
    Break.BOUND: 140.0,
    Break.INSIDE: 600.0,
}
_PAUSE = 40.0  # what a pause as long as the threshold takes off an end
_SENTENCE_WITHIN = 30.0
_SHORT = 300.0  # per share of the least duration that is lacking
_FULL = 30.0


class _Block:
    """The atoms, with what is asked of any stretch of them ready."""

    def __init__(self, atoms: Sequence[Atom], rules: CueRules) -> None:
        self.atoms = atoms
        self.rules = rules
        self._columns = list(accumulate((atom.full_columns for atom in atoms), initial=0))
        self._sentences = list(accumulate((atom.after is Break.SENTENCE for atom in atoms), initial=0))
        self._line_ends = self._find_line_ends()
        self._end_costs = [self._end_cost(k) for k in range(len(atoms))]

    def reach(self, start: int) -> int:
        """Where the longest cue from there ends."""
        end = self._line_ends[start]
        return self._line_ends[end] if self.rules.max_lines > 1 and end < len(self.atoms) else end

    def cost(self, start: int, end: int) -> float:
        """Of the atoms start to end, the last excluded, as a cue."""
        rules, first, last = self.rules, self.atoms[start], self.atoms[end - 1]
        is_last = end == len(self.atoms)
        room_ms = (last.end_ms + rules.pause_threshold_ms if is_last else self.atoms[end].start_ms) - first.start_ms
        lacking = max(0.0, 1.0 - room_ms / rules.room_ms) if rules.room_ms else 0.0
        fullness = (self._columns[end] - self._columns[start]) / (rules.max_lines * rules.max_line_chars)
        n_within = self._sentences[end - 1] - self._sentences[start]
        return _CUE + self._end_costs[end - 1] + _SHORT * lacking + _FULL * fullness**2 + _SENTENCE_WITHIN * n_within

    def _end_cost(self, index: int) -> float:
        if index + 1 == len(self.atoms):
            return 0.0
        atom, following = self.atoms[index], self.atoms[index + 1]
        pause = max(0, following.start_ms - atom.end_ms) / self.rules.pause_threshold_ms
        return max(0.0, _END[atom.after] - _PAUSE * min(1.0, pause))

    def _find_line_ends(self) -> list[int]:
        """Where the longest line from each atom ends."""
        ends: list[int] = []
        end = 0
        for start, atom in enumerate(self.atoms):
            limit = self._columns[start] + atom.has_space + self.rules.max_line_chars
            end = max(end, start + 1)
            while end < len(self.atoms) and self._columns[end + 1] <= limit:
                end += 1
            ends.append(end)
        return ends


def cut(atoms: Sequence[Atom], rules: CueRules) -> list[int]:
    """Where the cues end (the last: all atoms). None is longer than max_duration_ms, unless it is a single atom."""
    block = _Block(atoms, rules)
    n = len(atoms)
    costs = [0.0] + [float("inf")] * n
    starts = [0] * (n + 1)
    for start in range(n):
        for end in range(start + 1, block.reach(start) + 1):
            if end > start + 1 and atoms[end - 1].end_ms - atoms[start].start_ms > rules.max_duration_ms:
                break
            cost = costs[start] + block.cost(start, end)
            if cost < costs[end]:
                costs[end], starts[end] = cost, start
    ends: list[int] = []
    end = n
    while end > 0:
        ends.append(end)
        end = starts[end]
    return ends[::-1]
