"""Forms in any order and shape: each gets one answer, and a bad one an OpenAI error."""

from __future__ import annotations

import pytest

from asr_service.pb.asr.v1 import transcript_pb2
from rest_bridge import transcriptions
from rest_bridge.spool import MEMORY_BYTES
from tests.bridge.conftest import bridge_to
from tests.bridge.fake_service import TEXT, Running
from tests.bridge.raw_http import BOUNDARY, PATH, Answer, connected, form, get, part_head, post_body, post_form

AUDIO = b"\0\1\2\r\n--not-the-boundary\r\n" * 4000  # 100 KB


async def test_the_file_may_come_first(bridge: str, service: Running) -> None:
    answer = await post_form(bridge, [("file", AUDIO), ("language", "en"), ("model", "whisper-1")])

    assert answer.json == {"text": TEXT, "usage": {"type": "duration", "seconds": 4.5}}
    assert service.fake.uploads[-1].config.language == "en"
    assert bytes(service.fake.uploads[-1].data) == AUDIO
    assert service.fake.uploads[-1].is_whole


@pytest.mark.parametrize("n_bytes", [100, MEMORY_BYTES * 3 + 17])
async def test_a_field_after_the_file_reaches_the_service(bridge: str, service: Running, n_bytes: int) -> None:
    audio = AUDIO[:50] * (n_bytes // 50)

    answer = await post_form(bridge, [("prompt", "early"), ("file", audio), ("language", "de"), ("keywords[]", "Ada")])

    assert answer.status == 200
    *_, last = service.fake.uploads
    assert (last.config.language, last.config.context) == ("de", "early")
    assert [phrase.text for phrase in last.config.phrases] == ["Ada"]
    assert bytes(last.data) == audio


async def test_a_late_field_that_changes_nothing_for_the_service_costs_nothing(bridge: str, service: Running) -> None:
    answer = await post_form(
        bridge, [("model", "whisper-1"), ("file", AUDIO), ("response_format", "text"), ("stream", "false")]
    )

    assert answer.body.decode() == TEXT + "\n"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert len(service.fake.uploads) == 1


async def test_beyond_the_spool_a_late_field_is_refused_plainly(service: Running) -> None:
    async with bridge_to(service.target, bridge_spool_bytes=1000) as url:
        late = await post_form(url, [("file", AUDIO), ("language", "de")])
        early = await post_form(url, [("language", "de"), ("file", AUDIO)])

    assert late.status == 400
    assert "before `file`" in late.json["error"]["message"]
    assert early.status == 200


async def test_without_a_model_the_language_is_told_as_older_servers_did(bridge: str) -> None:
    answer = await post_form(bridge, [("file", AUDIO), ("return_timestamps", "true")])

    assert (answer.json["text"], answer.json["language"]) == (TEXT, "English")
    assert answer.json["words"][0] == {"word": "Hello", "start": 0.0, "end": 0.4}


async def test_what_had_no_effect_is_said(bridge: str, service: Running) -> None:
    ignored = transcript_pb2.WARNING_CODE_FIELD_IGNORED
    service.fake.warnings = [transcript_pb2.Warning(code=ignored, field="config.context", message="no use, é")]

    answer = await post_form(bridge, [("hotwords", "x"), ("stream", "true"), ("file", AUDIO), ("extra", b"binary")])

    assert answer.headers["x-asr-warnings"] == (
        "hotwords: ignored; an unknown field, stream: ignored; the answer comes as a whole, "
        "extra: ignored; an unknown file field, prompt: no use; ?"
    )


async def test_granularities_need_verbose_json(bridge: str, service: Running) -> None:
    message = "`response_format` must be `verbose_json` if `timestamp_granularities[]` is provided"

    known_early = await post_form(bridge, [("response_format", "json"), ("timestamp_granularities[]", "word"), ("file", AUDIO)])
    known_late = await post_form(bridge, [("timestamp_granularities", "word"), ("file", AUDIO)])
    fine = await post_form(bridge, [("timestamp_granularities", "word"), ("file", AUDIO), ("response_format", "verbose_json")])

    assert known_early.json["error"]["message"] == known_late.json["error"]["message"] == message
    assert fine.json["words"]
    assert "segments" not in fine.json


BAD_FORMS = [
    ([("model", "whisper-1")], "missing_required_parameter", "file"),
    ([("temperature", "1.5"), ("file", AUDIO)], "invalid_value", "temperature"),
    ([("temperature", "nan"), ("file", AUDIO)], "invalid_value", "temperature"),
    ([("file", AUDIO), ("temperature", "x")], "invalid_value", "temperature"),
    ([("response_format", "diarized_json"), ("file", AUDIO)], "invalid_value", "response_format"),
    ([("response_format", "xml"), ("file", AUDIO)], "invalid_value", "response_format"),
    ([("stream", "maybe"), ("file", AUDIO)], "invalid_value", "stream"),
    ([("chunking_strategy", "[1]"), ("file", AUDIO)], "invalid_value", "chunking_strategy"),
    ([("chunking_strategy[type]", "semantic"), ("file", AUDIO)], "invalid_value", "chunking_strategy"),
    ([("prompt", "x" * 70_000), ("file", AUDIO)], "invalid_value", "prompt"),
    ([("file", AUDIO), ("file", AUDIO)], "invalid_value", "file"),
    ([("file", b"")], "audio_too_short", "file"),
    ([*[("prompt", "x")] * 201, ("file", AUDIO)], "malformed_form", None),
]


@pytest.mark.parametrize(("parts", "code", "param"), BAD_FORMS)
async def test_a_bad_form_is_refused_with_its_field(
    bridge: str, parts: list[tuple[str, str]], code: str, param: str | None
) -> None:
    assert_error(await post_form(bridge, parts), 400, code, param)


def assert_error(answer: Answer, status: int, code: str, param: str | None = None) -> None:
    assert answer.status == status
    error = answer.json["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["code"], error["param"]) == (code, param)
    assert error["message"]
    assert answer.headers["x-request-id"]


BROKEN = {
    "no final boundary": form([("file", AUDIO)])[: -len(BOUNDARY) - 8],
    "no boundary at all": b"hello there",
    "empty": b"",
    "no name": f"--{BOUNDARY}\r\nContent-Type: text/plain\r\n\r\nx\r\n--{BOUNDARY}--\r\n".encode(),
    "no part headers": f"--{BOUNDARY}\r\nx\r\n--{BOUNDARY}--\r\n".encode(),
    "not UTF-8": part_head("prompt", is_file=False) + b"\xff\xfe\r\n" + form([("file", AUDIO)]),
    "base64": f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"\r\n'
    f"Content-Transfer-Encoding: base64\r\n\r\nAAAA\r\n--{BOUNDARY}--\r\n".encode(),
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN.keys())
async def test_a_malformed_body_is_refused(bridge: str, body: bytes) -> None:
    answer = await post_body(bridge, body)

    assert answer.status == 400
    assert set(answer.json["error"]) == {"message", "type", "param", "code"}
    assert answer.json["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("content_type", ["application/json", "", "multipart/form-data", "multipart/mixed; boundary=x"])
async def test_anything_but_a_form_is_refused(bridge: str, content_type: str) -> None:
    async with connected(bridge) as connection:
        await connection.begin("POST", PATH, {"Content-Type": content_type, "Content-Length": "2"})
        await connection.send(b"{}")

        assert_error(await connection.answer(), 400, "malformed_form")


async def test_unknown_urls_and_methods_get_openai_errors(bridge: str) -> None:
    assert_error(await get(bridge, "/v1/nothing"), 404, "unknown_url")
    wrong = await get(bridge, PATH)
    assert_error(wrong, 405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"


async def test_a_fault_of_our_own_says_nothing_about_the_inside(bridge: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr(transcriptions, "render", fail)

    answer = await post_form(bridge, [("file", AUDIO)])

    assert_error(answer, 500, "internal_error")
    assert b"secret" not in answer.body


async def test_every_answer_has_its_headers(bridge: str) -> None:
    answer = await post_form(bridge, [("file", AUDIO)], {"x-request-id": "bad id"})

    assert answer.headers["x-request-id"] not in ("", "bad id")
    assert int(answer.headers["openai-processing-ms"]) >= 0
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "aiohttp" not in answer.headers["server"]
