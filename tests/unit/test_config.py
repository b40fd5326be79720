import pytest

from asr_service.config import REFUSALS, Settings
from asr_service.environment import BadSettings, Refusal


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {name for row in Settings.rows() for name in row.names} | {refusal.name for refusal in REFUSALS}
    for name in names:
        monkeypatch.delenv(name, raising=False)


def complaint(monkeypatch: pytest.MonkeyPatch, **environment: str) -> str:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BadSettings) as caught:
        Settings.load()
    return str(caught.value)


def test_the_defaults_listen_on_loopback_without_keys() -> None:
    settings = Settings.load()

    assert (settings.host, settings.grpc_port, settings.metrics_port, settings.api_keys) == ("127.0.0.1", 50051, 9464, ())


def test_a_bad_value_names_key_value_and_what_was_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    text = complaint(monkeypatch, GRPC_PORT="abc", LOG_LEVEL="loud")

    assert "GRPC_PORT='abc': Input should be a valid integer" in text
    assert "LOG_LEVEL='loud': Input should be 'debug', 'info', 'warning' or 'error'" in text


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.name)
def test_a_feature_that_does_not_exist_is_refused_unless_off(refusal: Refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    for off in ("", *refusal.off, *(value.upper() for value in refusal.off)):
        monkeypatch.setenv(refusal.name, off)
        Settings.load()

    assert f"{refusal.name}='something'" in complaint(monkeypatch, **{refusal.name: "something"})


@pytest.mark.parametrize("name", ["MODEL_ID", "MODEL_NAME"])
def test_both_older_names_of_the_model_work(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "pocketsphinx-en-us")

    assert Settings.load().model_id == "pocketsphinx-en-us"


def test_two_names_of_one_setting_must_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "MODEL_ID='a' and MODEL_NAME='b'" in complaint(monkeypatch, MODEL_ID="a", MODEL_NAME="b")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
def test_beyond_loopback_needs_keys_or_a_clear_word(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if host:
        assert "API_KEYS" in complaint(monkeypatch, HOST=host)
    monkeypatch.setenv("API_KEYS", " one, two ,")
    monkeypatch.setenv("HOST", host)
    assert Settings.load().api_keys == ("one", "two")
    monkeypatch.delenv("API_KEYS")
    monkeypatch.setenv("ALLOW_UNAUTHENTICATED", "true")
    assert not Settings.load().api_keys


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost"])
def test_loopback_needs_no_keys(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST", host)

    assert Settings.load().is_loopback


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "CUDA:13"])
def test_a_device_is_a_name_of_torch(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVICE", device)

    assert Settings.load().device == device.lower()


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "mps", "0"])
def test_another_device_is_refused_with_what_was_expected(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert f"DEVICE='{device}': expected auto, cpu, cuda or cuda:N" in complaint(monkeypatch, DEVICE=device)


def test_the_precision_is_one_of_four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DTYPE", "BFloat16")

    assert Settings.load().dtype == "bfloat16"
    assert "DTYPE='int8': Input should be 'auto', 'float32', 'bfloat16' or 'float16'" in complaint(monkeypatch, DTYPE="int8")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_INFERENCE_BATCH_SIZE", "1025"),
        ("MAX_INFERENCE_BATCH_SIZE", "-1"),
        ("MAX_NEW_TOKENS", "-1"),
        ("KV_CACHE_MIB", "-1"),
        ("STEP_TOKENS", "many"),
        ("ENCODE_WINDOWS", "1025"),
        ("TORCH_THREADS", "-1"),
        ("SEGMENT_SOFT_SECONDS", "0"),
        ("SEGMENT_HARD_SECONDS", "9"),
        ("MAX_EXPECTED_WAIT", "-1"),
    ],
)
def test_a_value_out_of_bounds_is_refused(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert f"{name}={value!r}: " in complaint(monkeypatch, **{name: value})


def test_a_stretch_is_cut_softly_before_it_is_cut_hard(monkeypatch: pytest.MonkeyPatch) -> None:
    text = complaint(monkeypatch, SEGMENT_SOFT_SECONDS="20", SEGMENT_HARD_SECONDS="20")

    assert text == "SEGMENT_SOFT_SECONDS=20: expected less than SEGMENT_HARD_SECONDS=20"


def test_an_unknown_failpoint_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "want NAME=error|crash|hang" in complaint(monkeypatch, FAILPOINTS="nowhere=error")


def test_inline_limits_must_fit_together(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "MAX_INLINE_BYTES=4096" in complaint(monkeypatch, MAX_INLINE_BYTES="4096", MAX_INLINE_BYTES_TOTAL="2048")


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings.load().grpc_port = 1
