"""What the front's configuration is made of, and that Envoy takes every variant of it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from hypothesis import given
from hypothesis import strategies as st

from envoy.binary import find_envoy
from envoy.compose import compose, parse
from envoy.descriptors import METHODS, descriptor_set
from envoy.front import DESCRIPTORS, Address, Front, Jwt, RateLimit, Tls

PARTS = ["--service", "127.0.0.1:1", "--service", "127.0.0.1:2", "--bridge", "127.0.0.1:3"]
JWKS = '{"keys": [{"kty": "oct", "kid": "one", "alg": "HS256", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}]}'


def certificate(folder: Path, name: str) -> tuple[str, str]:
    """A self-signed certificate and its key."""
    made = folder / f"{name}.crt", folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    command += ["-subj", f"/CN={name}", "-out", str(made[0]), "-keyout", str(made[1])]
    subprocess.run(command, check=True, capture_output=True)
    return str(made[0]), str(made[1])


def variants(folder: Path) -> dict[str, list[str]]:
    cert, key = certificate(folder, "front")
    jwks = folder / "jwks.json"
    jwks.write_text(JWKS)
    plain: dict[str, list[str]] = {
        "plain": [],
        "browsers": ["--origin", "https://app.example", "--origin", "https://other.example"],
        "any browser": ["--origin", "*"],
        "tls": ["--tls", cert, key],
        "mtls": ["--tls", cert, key, "--client-ca", cert, "--client-name", "spiffe://asr/client"],
        "jwt": ["--jwt", "issuer", "audience", str(jwks)],
        "rate limit": ["--rate-limit", "5", "10"],
        "traces": ["--otlp", "127.0.0.1:4318"],
        "names": ["--service", "services.example:50051"],
    }
    return plain | {"all": [argument for arguments in plain.values() for argument in arguments]}


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    return variants(tmp_path_factory.mktemp("variants"))


@pytest.mark.parametrize(
    "variant", ["plain", "browsers", "any browser", "tls", "mtls", "jwt", "rate limit", "traces", "names", "all"]
)
def test_envoy_takes_every_variant(variant: str, commands: dict[str, list[str]], tmp_path: Path) -> None:
    config = tmp_path / "envoy.json"
    config.write_text(json.dumps(compose(parse(PARTS + commands[variant]))))

    result = subprocess.run(
        [find_envoy(), "--mode", "validate", "-c", str(config)], capture_output=True, text=True, timeout=60, check=False
    )

    assert result.returncode == 0, result.stderr
    assert "warning" not in result.stderr.replace("--log-level warning", ""), result.stderr


def test_what_envoy_would_refuse_is_found(tmp_path: Path) -> None:
    config = tmp_path / "envoy.json"
    config.write_text(json.dumps(compose(parse([*PARTS, "--descriptors", str(tmp_path / "none.binpb")]))))

    result = subprocess.run([find_envoy(), "--mode", "validate", "-c", str(config)], capture_output=True, check=False)

    assert result.returncode == 1


def front(**more: Any) -> Front:
    return Front((Address("127.0.0.1", 1),), (Address("127.0.0.1", 2),), **more)


FRONTS = st.builds(
    front,
    origins=st.sampled_from([(), ("*",), ("https://a.example",)]),
    tls=st.sampled_from([None, Tls("c", "k"), Tls("c", "k", "ca"), Tls("c", "k", "ca", "spiffe://a")]),
    jwt=st.sampled_from([None, Jwt("i", "a", JWKS)]),
    rate_limit=st.sampled_from([None, RateLimit(1, 1), RateLimit(5, 50)]),
    otlp=st.sampled_from([None, Address("collector", 4318)]),
)


@given(FRONTS)
def test_the_same_front_gives_the_same_configuration_and_it_is_json(wanted: Front) -> None:
    assert json.loads(json.dumps(compose(wanted))) == compose(wanted)


@given(FRONTS)
def test_nothing_has_a_total_time_and_everything_is_tried_again_in_one_way(wanted: Front) -> None:
    actions = [found["route"] for found in everything(compose(wanted)) if isinstance(found.get("route"), dict)]

    assert actions
    assert {action["timeout"] for action in actions} == {"0s"}
    assert len({json.dumps(action["retry_policy"]) for action in actions}) == 1
    assert not [found for found in everything(compose(wanted)) if "max_stream_duration" in found]


@given(FRONTS)
def test_what_protects_the_front_comes_before_what_costs(wanted: Front) -> None:
    public = compose(wanted)["static_resources"]["listeners"][0]
    names = [one["name"].rpartition(".")[2] for one in manager(public)["http_filters"]]

    order = ["cors", "grpc_web", "jwt_authn", "local_ratelimit", "grpc_json_transcoder", "grpc_stats", "router"]
    assert names == [name for name in order if name in names]
    assert ("jwt_authn" in names) == (wanted.jwt is not None)
    assert ("local_ratelimit" in names) == (wanted.rate_limit is not None)
    assert ("transport_socket" in public["filter_chains"][0]) == (wanted.tls is not None)


@given(FRONTS)
def test_the_bridges_port_asks_for_nothing_and_offers_grpc_only(wanted: Front) -> None:
    internal = compose(wanted)["static_resources"]["listeners"][1]
    clusters = {found["cluster"] for found in everything(internal) if "retry_policy" in found}

    assert "transport_socket" not in internal["filter_chains"][0]
    assert [one["name"].rpartition(".")[2] for one in manager(internal)["http_filters"]] == ["grpc_stats", "router"]
    assert clusters == {"services", "sessions"}


def test_the_descriptor_set_is_that_of_the_contract_and_knows_the_details_of_errors() -> None:
    assert DESCRIPTORS.read_bytes() == descriptor_set()
    files = FileDescriptorSet.FromString(descriptor_set()).file
    names = [file.name for file in files]

    assert {"asr/v1/asr.proto", "google/rpc/status.proto", "google/rpc/error_details.proto"} <= set(names)
    assert all(names.index(imported) < names.index(file.name) for file in files for imported in file.dependency)
    assert {"Transcribe", "TranscribeUpload", "StreamTranscribe"} <= set(METHODS)


@given(st.sampled_from(["127.0.0.1", "::1", "asr.example", "localhost"]), st.integers(0, 65535))
def test_an_address_is_read_as_it_is_written(host: str, port: int) -> None:
    assert Address.parse(str(Address(host, port))) == Address(host, port)


@pytest.mark.parametrize("text", ["", "host", ":1", "host:", "host:x", "host:65536", "host:-1"])
def test_what_is_no_address_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="expected HOST:PORT"):
        Address.parse(text)


def bad_fronts() -> Iterator[Any]:
    yield lambda: Front((), (Address("a", 1),))
    yield lambda: front(ping_s=0)
    yield lambda: Tls("c", "k", client_name="spiffe://a")
    yield lambda: Jwt("i", "a", "{}")
    yield lambda: Jwt("i", "a", "nonsense")
    yield lambda: RateLimit(0, 1)
    yield lambda: RateLimit(10, 5)


@pytest.mark.parametrize("make", list(bad_fronts()))
def test_a_front_that_makes_no_sense_is_refused(make: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        make()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--service", "127.0.0.1:1"],
        [*PARTS, "--client-ca", "ca.crt"],
        [*PARTS, "--rate-limit", "5", "1"],
        [*PARTS, "--jwt", "i", "a", "/nowhere.json"],
        [*PARTS, "--public", "8080"],
    ],
)
def test_a_command_line_that_makes_no_sense_ends_the_program(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(arguments)

    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err


def manager(listener: Any) -> Any:
    return listener["filter_chains"][0]["filters"][0]["typed_config"]


def everything(config: Any) -> Iterator[dict[str, Any]]:
    """All objects inside a configuration."""
    if isinstance(config, dict):
        yield config
    for value in config.values() if isinstance(config, dict) else config if isinstance(config, list) else ():
        yield from everything(value)
