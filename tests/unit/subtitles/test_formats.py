"""Files can be read back, by us and by the libraries that players use."""

from __future__ import annotations

import html
import io
import json
import re
from collections.abc import Callable

import av
import pysubs2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr_service.subtitles import Cue, to_json, to_srt, to_vtt
from asr_service.subtitles.ass import to_ass

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


def test_lines_from_right_to_left_are_marked_for_players_of_srt_only() -> None:
    cue = Cue(0, 1000, ("هل كانت سريعة؟", "نعم."), "ar")

    assert "\u202bهل كانت سريعة؟\u202c\n\u202bنعم.\u202c" in to_srt([cue])
    assert "\nهل كانت سريعة؟\nنعم.\n" in to_vtt([cue])
    assert "\u202b" not in to_srt([Cue(0, 1000, ("He said نعم, twice.",), "en")])


def test_json_is_an_array_of_cues() -> None:
    cues = [Cue(0, 1500, ("Hello,", "wörld."), "en"), Cue(2000, 3000, ("你",))]

    assert json.loads(to_json(cues)) == [
        {"index": 1, "start_ms": 0, "end_ms": 1500, "lines": ["Hello,", "wörld."], "language": "en"},
        {"index": 2, "start_ms": 2000, "end_ms": 3000, "lines": ["你"], "language": ""},
    ]
    assert json.loads(to_json([])) == []


def test_ass_shows_what_would_be_commands() -> None:
    (event,) = (line for line in to_ass([Cue(1004, 2500, (r"{\b1} a\N", "b"))]).splitlines() if line.startswith("Dialogue:"))

    assert event == "Dialogue: 0,0:00:01.00,0:00:02.50,Default,,0,0,0,,\\{\\\u2060b1\\} a\\\u2060N\\Nb"


def test_ass_is_read_back_by_its_library() -> None:
    read = pysubs2.SSAFile.from_string(to_ass([Cue(0, 1500, ("Hello,", "world.")), Cue(2000, 3000, ("Bye.",))]))

    assert [(e.start, e.end, e.plaintext) for e in read] == [(0, 1500, "Hello,\nworld."), (2000, 3000, "Bye.")]
    assert to_ass([]).startswith("[Script Info]")


@pytest.mark.parametrize(("form", "write"), [("srt", to_srt), ("webvtt", to_vtt), ("ass", to_ass)])
def test_libav_reads_every_cue_at_its_time(form: str, write: Callable[[list[Cue]], str]) -> None:
    made = [Cue(1000 * k + 100, 1000 * k + 900, (f"line {k}", "& <more> 你好 نعم")) for k in range(200)]

    with av.open(io.BytesIO(write(made).encode()), "r", form) as container:
        packets = [packet for packet in container.demux() if packet.size]

    assert [round(1000 * float(p.pts * p.time_base)) for p in packets if p.pts is not None] == [c.start_ms for c in made]
    assert all(f"line {k}" in bytes(packet).decode() for k, packet in enumerate(packets))


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
