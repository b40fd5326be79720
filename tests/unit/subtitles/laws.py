"""What is true of all cues, whatever was said, and random speech to try it on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from random import Random

from asr_service.subtitles import Cue, CueMaker, CueRules, SubtitleSegment, SubtitleWord
from asr_service.subtitles.atoms import atoms_of
from asr_service.subtitles.lines import can_hold
from asr_service.subtitles.schedule import LEAST_MS
from asr_service.subtitles.script import clean, columns, is_unspaced

ALPHABETS = {
    "en": ("the of Paris runs and slowly seventeen a to why I'd world-wide", True),
    "de": ("und der Donaudampfschifffahrtsgesellschaft ist heute nicht z.B. Übermut", True),
    "ar": ("في مرحبا العالم من كتاب هذا جميل", True),
    "ru": ("в и сегодня хорошая погода не правда", True),
    "ko": ("저는 어제 학교에 갔습니다 그리고 친구를", True),
    "zh": ("今天 天气 很 好 我们 去 公园 吧 的", False),
    "ja": ("わたしは 昨日 がっこうへ いきました ディープ 学習の", False),
    "th": ("ฉัน ชอบ กิน ข้าวผัด ที่ ร้านอาหาร", False),
    "": ("x 你 iPhone 3.14 ♪ 👩‍👩‍👧 한국 --> <b> {\\an8} supercalifragilisticexpialidocious \u202b.", True),
}
MARKS = {True: [".", ",", "?", "!", ";", "…"], False: ["。", "，", "？", "！", "、", "」"]}


@dataclass(frozen=True)
class Case:
    """`settled_after`: segments after which all is settled at once."""

    rules: CueRules
    segments: tuple[SubtitleSegment, ...]
    settled_after: frozenset[int] = frozenset()

    def cues(self) -> list[Cue]:
        maker = CueMaker(self.rules)
        cues: list[Cue] = []
        for index, segment in enumerate(self.segments):
            cues += maker.feed(segment)
            if index in self.settled_after:
                cues += maker.settle(segment.end_ms)
        return cues + maker.finish()


def random_case(seed: int) -> Case:
    random = Random(seed)  # noqa: S311
    rules = CueRules() if random.random() < 0.4 else random_rules(random)
    segments = []
    now_ms = random.choice([0, 0, 5000, 90_000_000])
    for _ in range(random.randint(0, 5)):
        now_ms += random.choice([0, 0, 12, 300, 600, 3000])
        segment = random_segment(random, now_ms)
        segments.append(segment)
        now_ms = segment.end_ms if random.random() < 0.9 else random.randint(0, now_ms + 1)
    settled = [k for k in range(len(segments)) if random.random() < 0.3] if random.random() < 0.2 else []
    return Case(rules, tuple(segments), frozenset(settled))


def random_rules(random: Random) -> CueRules:
    max_ms = random.randint(1000, 20_000)
    return CueRules(
        max_line_chars=random.choice([10, 16, 32, 42, 100]),
        max_lines=random.randint(1, 2),
        max_duration_ms=max_ms,
        min_duration_ms=min(max_ms, random.choice([0, 500, 833, 1000, 5000])),
        min_gap_ms=random.choice([0, 40, 83, 500, 1000]),
        pause_threshold_ms=random.choice([100, 300, 500, 5000]),
        max_chars_per_second=random.choice([5.0, 17.0, 20.0, 60.0]),
    )


def random_segment(random: Random, start_ms: int) -> SubtitleSegment:
    language = random.choice(list(ALPHABETS))
    alphabet, is_spaced = ALPHABETS[language]
    pace_ms = random.choice([0, 40, 150, 400, 2000])
    pause_share = random.choice([0.0, 0.1, 0.5])
    text, words, now_ms = "", [], start_ms
    for _ in range(random.choice([0, 1, 2, 5, 20, 60])):
        word = random.choice(alphabet.split())
        length_ms = int(random.expovariate(1 / pace_ms)) if pace_ms else 0
        words.append(SubtitleWord(word, now_ms, now_ms + length_ms))
        mark = random.choice(MARKS[is_spaced]) if random.random() < 0.2 else ""
        space = random.choice([" "] * 9 + ["\u00a0", "\r\n", "\u2028 \u00a0"]) if is_spaced and text else ""
        text += space + word + mark
        now_ms += length_ms + (random.randint(1, 1500) if random.random() < pause_share else 0)
    match random.randint(0, 5):
        case 0:
            words = []
        case 1:
            words = [word for word in words if random.random() < 0.7]
        case 2:
            random.shuffle(words)
        case 3 if not random.randint(0, 3):
            text = ""
    return SubtitleSegment(text, start_ms, now_ms, tuple(words), language)


def check(case: Case) -> None:
    """Raises AssertionError."""
    cues = case.cues()
    check_times(cues, case.rules)
    check_lines(cues, case.rules)
    check_words(cues, case)
    if case.settled_after:
        return  # then cues could not wait for what came next
    check_reading(cues, case.rules)
    if all(before.end_ms <= after.start_ms for before, after in pairwise(case.segments)):
        check_room(cues, case.rules)


def check_times(cues: list[Cue], rules: CueRules) -> None:
    assert all(cue.start_ms >= 0 for cue in cues)
    assert all(LEAST_MS <= cue.end_ms - cue.start_ms <= rules.max_duration_ms for cue in cues)
    assert all(after.start_ms - cue.end_ms >= rules.min_gap_ms for cue, after in pairwise(cues))


def check_lines(cues: list[Cue], rules: CueRules) -> None:
    assert all(1 <= len(cue.lines) <= rules.max_lines for cue in cues)
    assert all(columns(line) <= rules.max_line_chars for cue in cues for line in cue.lines)
    assert all(line and line == line.strip() and len(line.splitlines()) == 1 for cue in cues for line in cue.lines)


def check_words(cues: list[Cue], case: Case) -> None:
    texts = [clean(s.text) or clean("\n".join(w.text for w in s.words)) for s in case.segments]
    lines = [line for cue in cues for line in cue.lines]
    assert letters("".join(lines)) == letters("".join(texts))
    if any(map(is_unspaced, "".join(texts))):
        return  # what a word is there depends on the dictionary
    shown = Counter(word for line in lines for word in line.split())
    said = Counter(word for text in texts for word in text.split() if columns(word) <= case.rules.max_line_chars)
    assert said <= shown
    if all(columns(word) <= case.rules.max_line_chars for text in texts for word in text.split()):
        assert said == shown


def check_room(cues: list[Cue], rules: CueRules) -> None:
    """A cue is only too short where it cannot be one with the next."""
    for cue, after in pairwise(cues):
        if cue.end_ms - cue.start_ms < rules.min_duration_ms:
            said_until_ms = after.end_ms + rules.min_gap_ms  # a gap is taken from speech where there is no silence
            is_long = said_until_ms - cue.start_ms > rules.max_duration_ms
            assert is_long or not can_join(cue, after, rules)
    assert not cues or cues[-1].end_ms - cues[-1].start_ms >= rules.min_duration_ms


def can_join(cue: Cue, after: Cue, rules: CueRules) -> bool:
    text = " ".join((*cue.lines, *after.lines))  # there may have been a space
    return can_hold(atoms_of(SubtitleSegment(text, 0, 0, (), cue.language), rules, None), rules)


def check_reading(cues: list[Cue], rules: CueRules) -> None:
    """A cue is only too fast where it cannot stay longer."""
    for index, cue in enumerate(cues):
        shown_ms = cue.end_ms - cue.start_ms
        if 1000 * sum(map(columns, cue.lines)) > rules.max_chars_per_second * shown_ms + 1:
            is_held_up = index + 1 < len(cues) and cues[index + 1].start_ms - cue.end_ms == rules.min_gap_ms
            assert is_held_up or shown_ms == rules.max_duration_ms


def letters(text: str) -> str:
    return "".join(text.split())
