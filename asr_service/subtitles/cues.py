"""Makes cues of speech, segment by segment: what is on the screen together.

The law, beside that of when cues are shown (schedule):
* all that is said is shown, once and in order: as many words come out as went in;
* a cue has at most max_lines lines of at most max_line_chars columns; a word that is wider goes on in the next line;
* a pause longer than pause_threshold_ms ends a cue, unless its cue would be too short to read;
* cues end with sentences and clauses where they can, and not on words that lean on the next;
* cues are settled in order and never change; the same segments give the same cues, one by one or all at once.
"""

from __future__ import annotations

from collections.abc import Iterable

from asr_service.subtitles.atoms import Atom, Before, atoms_of
from asr_service.subtitles.cue import Cue, SubtitleSegment
from asr_service.subtitles.cutting import cut
from asr_service.subtitles.rules import CueRules
from asr_service.subtitles.schedule import Draft, Schedule


def make_cues(segments: Iterable[SubtitleSegment], rules: CueRules | None = None) -> list[Cue]:
    """The cues of a recording. Segments and words are expected in order of time; where they are not, the later one waits."""
    maker = CueMaker(rules)
    cues = [cue for segment in segments for cue in maker.feed(segment)]
    return cues + maker.finish()


class CueMaker:
    """Takes the segments of one source in order and gives the cues that they settle."""

    def __init__(self, rules: CueRules | None = None) -> None:
        self.rules = rules or CueRules()
        self._schedule = Schedule(self.rules)
        self._pending: list[Atom] = []  # of the cue that is open
        self._before: Before | None = None

    def feed(self, segment: SubtitleSegment) -> list[Cue]:
        settled: list[Cue] = []
        atoms = atoms_of(segment, self.rules, self._before)
        for atom in atoms:
            if atom.is_after_pause:
                settled += self._cut_all()
            self._pending.append(atom)
        if atoms:
            self._before = Before(atoms[-1], segment)
            settled += self._cut_settled()
        return settled

    @property
    def unsettled_ms(self) -> int | None:
        """Where the first cue begins that was not given yet; None: all were."""
        from_ms = self._schedule.unsettled_ms
        return self._pending[0].start_ms if from_ms is None and self._pending else from_ms

    def settle(self, silent_until_ms: int) -> list[Cue]:
        """All that is left, for those who cannot wait: whoever speaks next begins there or later."""
        return self._cut_all() + self._schedule.finish(silent_until_ms)

    def finish(self) -> list[Cue]:
        """All that is left: nothing more is said."""
        return self._cut_all() + self._schedule.finish()

    def _cut_all(self) -> list[Cue]:
        ends = cut(self._pending, self.rules)
        atoms, self._pending = self._pending, []
        return self._schedule_cues(atoms, ends)

    def _cut_settled(self) -> list[Cue]:
        """All but the last cue, which may go on."""
        *ends, _ = cut(self._pending, self.rules)
        atoms = self._pending
        self._pending = atoms[ends[-1] :] if ends else atoms
        return self._schedule_cues(atoms, ends)

    def _schedule_cues(self, atoms: list[Atom], ends: list[int]) -> list[Cue]:
        starts = [0, *ends[:-1]]
        return [
            cue for start, end in zip(starts, ends, strict=False) for cue in self._schedule.add(Draft(tuple(atoms[start:end])))
        ]
