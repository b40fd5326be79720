"""Frames: however the bytes are cut, the same frames come out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr_service.engines.frames import LENGTHS, MAX_HEADER_BYTES, BadFrame, FrameBuffer, pack

_FRAMES = st.lists(
    st.tuples(st.dictionaries(st.text(), st.integers() | st.text(), max_size=3), st.binary(max_size=50)), max_size=5
)


@given(frames=_FRAMES, cut=st.integers(1, 40))
def test_frames_survive_any_cutting(frames: list[tuple[dict[str, object], bytes]], cut: int) -> None:
    data = b"".join(pack(header, payload) for header, payload in frames)
    buffer = FrameBuffer()
    out = []
    for start in range(0, len(data), cut):
        buffer.feed(data[start : start + cut])
        while (frame := buffer.next()) is not None:
            out.append(frame)

    assert out == frames


@pytest.mark.parametrize(
    "data", [LENGTHS.pack(MAX_HEADER_BYTES + 1, 0), LENGTHS.pack(3, 0) + b"abc", LENGTHS.pack(2, 0) + b"[]"]
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    buffer = FrameBuffer()
    buffer.feed(data)

    with pytest.raises(BadFrame):
        buffer.next()
