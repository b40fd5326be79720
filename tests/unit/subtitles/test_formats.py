"""SRT and WebVTT files can be read back."""

from __future__ import annotations

import html
import re

from hypothesis import given
from hypothesis import strategies as st

from asr_service.subtitles import Cue, to_srt, to_vtt

HOUR_MS = 3_600_000


def test_srt_counts_from_one_and_writes_commas() -> None:
    cues = [Cue(0, 1500, ("Hello,", "world.")), Cue(101 * HOUR_MS + 61_007, 101 * HOUR_MS + 62_000, ("Late.",))]

    assert to_srt(cues) == ("1\n00:00:00,000 --> 00:00:01,500\nHello,\nworld.\n\n2\n101:01:01,007 --> 101:01:02,000\nLate.\n\n")


def test_vtt_has_its_header_and_escapes() -> None:
    cues = [Cue(0, 1, ("a --> b & <c>",))]

    assert to_vtt(cues) == "WEBVTT\n\n00:00:00.000 --> 00:00:00.001\na --&gt; b &amp; &lt;c&gt;\n\n"


def test_srt_text_has_no_arrow_of_its_own() -> None:
    assert to_srt([Cue(0, 1, ("a ---> b",))]).count("-->") == 1


def test_nothing_said_is_an_empty_file() -> None:
    assert to_srt([]) == ""
    assert to_vtt([]) == "WEBVTT\n\n"


lines = st.text("ab -<>&;你", min_size=1, max_size=30).map(lambda text: f"x{text}x")
cues = st.builds(
    lambda start, length, text: Cue(start, start + length, tuple(text)),
    st.integers(0, 500 * HOUR_MS),
    st.integers(1, 7000),
    st.lists(lines, min_size=1, max_size=2),
)
TIMES = re.compile(r"(\d{2,}):(\d\d):(\d\d)[.,](\d{3}) --> (\d{2,}):(\d\d):(\d\d)[.,](\d{3})")


def read_back(block: str) -> Cue:
    times, *text = block.split("\n")
    match = TIMES.fullmatch(times)
    assert match
    h, m, s, ms, h2, m2, s2, ms2 = map(int, match.groups())
    return Cue(((h * 60 + m) * 60 + s) * 1000 + ms, ((h2 * 60 + m2) * 60 + s2) * 1000 + ms2, tuple(text))


@given(st.lists(cues, max_size=5))
def test_vtt_reads_back_as_it_was(made: list[Cue]) -> None:
    header, *blocks = to_vtt(made).removesuffix("\n\n").split("\n\n")

    assert header == "WEBVTT"
    read = [read_back(block) for block in blocks]
    assert [Cue(c.start_ms, c.end_ms, tuple(map(html.unescape, c.lines))) for c in read] == made


@given(st.lists(cues, max_size=5))
def test_srt_reads_back_but_for_arrows(made: list[Cue]) -> None:
    blocks = to_srt(made).removesuffix("\n\n").split("\n\n") if made else []

    assert [block.split("\n")[0] for block in blocks] == [str(k + 1) for k in range(len(made))]
    read = [read_back(block.split("\n", 1)[1]) for block in blocks]
    assert read == [Cue(c.start_ms, c.end_ms, tuple(x.replace("-->", "→") for x in c.lines)) for c in made]
