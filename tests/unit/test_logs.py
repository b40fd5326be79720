import json
import logging

from asr_service.logs import JsonFormatter, TextFormatter, request_id


def record(**extra: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"name": "asr", "levelname": "INFO", "msg": "call %s", "args": ("x",), **extra})
    made.created = 0.0
    return made


def test_a_json_line_has_its_fields_and_the_request_id() -> None:
    token = request_id.set("req_1")
    try:
        entry = json.loads(JsonFormatter().format(record(rpc="Transcribe", ms=3)))
    finally:
        request_id.reset(token)

    assert entry == {
        "time": "1970-01-01T00:00:00.000+00:00",
        "level": "info",
        "logger": "asr",
        "message": "call x",
        "request_id": "req_1",
        "rpc": "Transcribe",
        "ms": 3,
    }


def test_a_newline_cannot_forge_a_second_record() -> None:
    assert "\n" not in JsonFormatter().format(record(peer="a\nb"))


def test_a_text_line_ends_with_its_fields() -> None:
    assert TextFormatter().format(record(rpc="Transcribe")).endswith("call x rpc=Transcribe")
