"""When cues are shown.

The law, with s and e for where a cue's words begin and end:
* cues are in order, never overlap, and at least min_gap_ms is between them;
* a cue is shown from s to e, less the gap where the next follows at once; longer where its reader needs it and nothing else is
  said: up to min_duration_ms, and up to what max_chars_per_second asks for; never longer than max_duration_ms;
* where its neighbours are too near for min_duration_ms, it borrows: it begins up to MAX_EARLY_MS before s, in the silence
  there, then the next begins up to MAX_LATE_MS after its own s, then the two become one cue if one can hold both;
* so a cue is shorter than min_duration_ms only where more is said than the rules leave room for. Then nothing lags by more
  than MAX_LATE_MS, unless cues would be shorter than LEAST_MS, which no speech leads to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from asr_service.subtitles.atoms import Atom, line_columns
from asr_service.subtitles.cue import Cue
from asr_service.subtitles.lines import can_hold, lines_of
from asr_service.subtitles.rules import CueRules

MAX_EARLY_MS = 300
MAX_LATE_MS = 500
LEAST_MS = 40  # a frame of film


@dataclass(frozen=True, slots=True)
class Draft:
    """What becomes a cue."""

    atoms: tuple[Atom, ...]

    @property
    def start_ms(self) -> int:
        return self.atoms[0].start_ms

    @property
    def end_ms(self) -> int:
        return max(self.atoms[-1].end_ms, self.start_ms)

    def joined(self, other: Draft) -> Draft:
        return Draft(self.atoms + other.atoms)


@dataclass(frozen=True, slots=True)
class _Shown:
    """Begins there; its end depends on the next."""

    draft: Draft
    start_ms: int


class Schedule:
    """Takes drafts in order and gives cues as they are settled: each when the two after it are known."""

    def __init__(self, rules: CueRules) -> None:
        self._rules = rules
        self._shown: _Shown | None = None
        self._waiting: Draft | None = None
        self._least_ms = max(LEAST_MS, rules.min_duration_ms)
        self._free_ms = 0  # the last settled cue leaves the screen to others

    @property
    def unsettled_ms(self) -> int | None:
        """Where the first cue begins that was not given yet; None: all were."""
        if self._shown is not None:
            return self._shown.start_ms
        return self._waiting.start_ms if self._waiting is not None else None

    def add(self, draft: Draft) -> list[Cue]:
        waiting = self._waiting
        if waiting is None:
            self._waiting = draft
            return []
        start_ms = self._start_ms(waiting, draft)
        if start_ms + self._rules.room_ms - draft.start_ms > MAX_LATE_MS:
            if self._can_join(waiting, start_ms, draft):
                self._waiting = waiting.joined(draft)
                return []
            if self._shown is not None and self._can_join(self._shown.draft, self._shown.start_ms, waiting):
                self._shown = _Shown(self._shown.draft.joined(waiting), self._shown.start_ms)
                self._waiting = draft
                return []
        settled = self._settle_shown(start_ms - self._rules.min_gap_ms)
        self._shown, self._waiting = _Shown(waiting, start_ms), draft
        return settled

    def finish(self, silent_until_ms: int | None = None) -> list[Cue]:
        """All that is left. `silent_until_ms`: more may be said from there on; None: nothing more will be."""
        settled: list[Cue] = []
        if self._waiting is not None:
            start_ms = self._start_ms(self._waiting, None)
            settled += self._settle_shown(start_ms - self._rules.min_gap_ms)
            self._shown, self._waiting = _Shown(self._waiting, start_ms), None
        if self._shown is not None:
            until_ms = None
            if silent_until_ms is not None:
                needed_ms = max(self._shown.draft.end_ms, self._shown.start_ms + self._least_ms)
                until_ms = max(needed_ms, silent_until_ms - self._rules.min_gap_ms)
            settled += self._settle_shown(until_ms)
        return settled

    def _start_ms(self, draft: Draft, following: Draft | None) -> int:
        """Where it begins, after the one that is shown."""
        free_ms = least_ms = self._free_ms
        if self._shown is not None:
            rules, shown, gap_ms = self._rules, self._shown, self._rules.min_gap_ms
            spoken_ms = min(shown.draft.end_ms, shown.start_ms + rules.max_duration_ms)
            free_ms = max(shown.start_ms + self._least_ms + gap_ms, spoken_ms)
            least_ms = shown.start_ms + LEAST_MS + gap_ms
        start_ms = max(least_ms, min(max(draft.start_ms, free_ms), draft.start_ms + MAX_LATE_MS))
        if following is None:
            return start_ms
        lacking_ms = max(0, start_ms + self._rules.room_ms - following.start_ms)
        earliest_ms = max(free_ms, draft.start_ms - MAX_EARLY_MS)
        return start_ms - min(lacking_ms, max(0, start_ms - earliest_ms))

    def _can_join(self, left: Draft, start_ms: int, right: Draft) -> bool:
        is_short = right.end_ms - start_ms <= self._rules.max_duration_ms
        return is_short and can_hold(left.atoms + right.atoms, self._rules)

    def _settle_shown(self, until_ms: int | None) -> list[Cue]:
        """`until_ms`: where it must be gone by."""
        if self._shown is None:
            return []
        rules, draft, start_ms = self._rules, self._shown.draft, self._shown.start_ms
        lines = lines_of(draft.atoms, rules)
        reading_ms = math.ceil(1000 * line_columns(draft.atoms) / rules.max_chars_per_second)
        shown_ms = max(draft.end_ms - start_ms, self._least_ms, reading_ms)
        end_ms = start_ms + min(shown_ms, rules.max_duration_ms)
        end_ms = end_ms if until_ms is None else min(end_ms, until_ms)
        self._shown = None
        self._free_ms = end_ms + rules.min_gap_ms
        return [Cue(start_ms, end_ms, lines, draft.atoms[0].language)]
