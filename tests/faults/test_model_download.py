"""`asr models pull` against a hub that works, breaks off, refuses, or is gone. Each command is a process of its own, as the
library reads its settings once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fake_hub import FakeHub, Repo
from tests.model.checkpoints import model_config, random_checkpoint

pytest.importorskip("huggingface_hub")

NAME = "someone/small-asr"
COMMAND = "from asr_service.cli.main import main; main()"


@dataclass(frozen=True)
class Desk:
    """A user with a cache of their own."""

    home: Path
    endpoint: str

    def asr(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return self.python(COMMAND, *arguments, **environ)

    def python(self, program: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        process = self.start(program, *arguments, **environ)
        out, complaints = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, out, complaints)

    def start(self, program: str, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        settings = {"HF_HOME": str(self.home), "HF_ENDPOINT": self.endpoint, "HF_HUB_DISABLE_TELEMETRY": "1", **environ}
        kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        command = [sys.executable, "-c", program, *arguments]
        return subprocess.Popen(
            command,
            env=kept | settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.home.parent,
        )

    def is_on_disk(self, model_id: str = NAME) -> bool:
        program = (
            "import sys; from asr_service.model.hub import is_on_disk; print(is_on_disk(sys.argv[1])); "
            "assert 'torch' not in sys.modules"
        )
        result = self.python(f"import sys; sys.path.insert(0, {os.getcwd()!r}); {program}", model_id)
        assert result.returncode == 0, result.stderr
        return result.stdout.strip() == "True"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FakeHub]:
    hub = FakeHub()
    folder = tmp_path / "published"
    random_checkpoint(folder, model_config(hidden=96), n_shards=2)
    hub.repos[NAME] = Repo(folder, extra={"README.md": b"# A model", "pytorch_model.bin": b"not wanted"})
    with hub.running():
        yield hub


@pytest.fixture
def desk(tmp_path: Path, hub: FakeHub) -> Desk:
    home = tmp_path / "user" / "hf"
    home.mkdir(parents=True)
    return Desk(home, hub.endpoint)


def test_a_pulled_model_is_verified_and_its_folder_printed(desk: Desk, hub: FakeHub) -> None:
    result = desk.asr("models", "pull", NAME)

    assert result.returncode == 0, result.stderr
    folder = Path(result.stdout.strip())
    assert folder.is_relative_to(desk.home)
    assert "verified: " in result.stderr
    assert f"{NAME}: " in result.stderr  # progress, in plain lines
    assert {path.name for path in folder.iterdir()} == set(hub.repos[NAME].names()) - {"README.md", "pytorch_model.bin"}


def test_weights_come_last_and_nothing_comes_twice(desk: Desk, hub: FakeHub) -> None:
    desk.asr("models", "pull", NAME)
    weights = [name for name in hub.fetched if name.endswith(".safetensors")]
    assert hub.fetched[-len(weights) :] == weights
    before = len(hub.fetched)

    again = desk.asr("models", "pull", NAME)

    assert again.returncode == 0, again.stderr
    assert len(hub.fetched) == before


def test_after_a_download_no_hub_is_needed(desk: Desk, hub: FakeHub) -> None:
    assert not desk.is_on_disk()
    folder = desk.asr("models", "pull", NAME).stdout
    hub.stop()
    asked = len(hub.requests)

    assert desk.is_on_disk()
    assert desk.asr("models", "verify", NAME).stdout == folder
    assert len(hub.requests) == asked


def test_a_download_that_broke_off_is_resumed_where_it_was(desk: Desk, hub: FakeHub) -> None:
    hub.cut_at = 50_000
    small_blocks = (  # the library writes 10 MB at a time
        f"import huggingface_hub.constants as constants; constants.DOWNLOAD_CHUNK_SIZE = 1000; {COMMAND}"
    )
    first = desk.python(small_blocks, "models", "pull", NAME)
    assert first.returncode == 1
    assert "kept for the next attempt" in first.stderr
    assert not desk.is_on_disk()

    second = desk.asr("models", "pull", NAME)

    assert second.returncode == 0, second.stderr
    assert hub.ranges == ["bytes=50000-"]
    assert desk.is_on_disk()


def test_ctrl_c_ends_a_download_at_once(desk: Desk, hub: FakeHub) -> None:
    hub.stalls_at = 1000
    process = desk.start(COMMAND, "models", "pull", NAME)
    assert hub.is_stalled.wait(60)

    process.send_signal(signal.SIGINT)
    _, complaints = process.communicate(timeout=30)

    assert process.returncode == 130
    assert complaints.splitlines()[-1] == "asr: interrupted; what is there is kept for the next attempt"


def test_an_update_that_broke_off_leaves_the_old_model_in_use(desk: Desk, hub: FakeHub, tmp_path: Path) -> None:
    old = desk.asr("models", "pull", NAME).stdout
    newer = tmp_path / "newer"
    random_checkpoint(newer, model_config(hidden=96), seed=1)
    hub.repos[NAME] = Repo(newer, commit="b" * 40)
    hub.cut_at = 1000

    broken = desk.asr("models", "pull", NAME)
    assert broken.returncode == 1
    assert desk.asr("models", "verify", NAME).stdout == old

    new = desk.asr("models", "pull", NAME).stdout
    assert new != old
    assert desk.asr("models", "verify", NAME).stdout == new


def test_local_models_are_listed_with_what_they_lack(desk: Desk, hub: FakeHub) -> None:
    assert desk.asr("models", "list", "--local").stdout == ""
    hub.cut_at = 0
    desk.asr("models", "pull", NAME)
    [half] = json.loads(desk.asr("models", "list", "--local", "--json").stdout)["models"]
    assert half["lack"]

    desk.asr("models", "pull", NAME)

    line = desk.asr("models", "list", "--local").stdout.strip().split("\t")
    assert line[0] == NAME
    assert line[2] == "complete"


def test_a_revision_can_be_asked_for(desk: Desk, hub: FakeHub) -> None:
    pinned = f"{NAME}@{'a' * 40}"
    assert desk.asr("models", "pull", pinned).returncode == 0

    assert desk.is_on_disk(pinned)
    unknown = desk.asr("models", "pull", f"{NAME}@v9")
    assert unknown.returncode == 1
    assert "no revision 'v9'" in unknown.stderr


@pytest.mark.parametrize(
    ("name", "status", "expected"),
    [
        ("someone/else", None, "is not on http"),
        (NAME, 500, "answers 500"),
        (NAME, 403, "HF_TOKEN"),
        (NAME, 429, "answers 429"),
    ],
)
def test_a_refusal_is_one_clear_line(desk: Desk, hub: FakeHub, name: str, status: int | None, expected: str) -> None:
    hub.status = status

    result = desk.asr("models", "pull", name)

    assert result.returncode == 1
    assert expected in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_gated_model_says_what_to_do(desk: Desk, hub: FakeHub) -> None:
    hub.repos[NAME].is_gated = True

    result = desk.asr("models", "pull", NAME)

    assert result.returncode == 1
    assert "accept its terms" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_hub_that_is_gone_is_named(desk: Desk, hub: FakeHub) -> None:
    hub.stop()

    result = desk.asr("models", "pull", NAME)

    assert result.returncode == 1
    assert hub.endpoint in result.stderr
    assert "refused" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_offline_means_no_request(desk: Desk, hub: FakeHub) -> None:
    result = desk.asr("models", "pull", NAME, HF_HUB_OFFLINE="1")

    assert result.returncode == 1
    assert "HF_HUB_OFFLINE" in result.stderr
    assert hub.requests == []


def test_a_model_without_safetensors_is_refused_before_anything_is_fetched(desk: Desk, hub: FakeHub, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    hub.repos["someone/pickles"] = Repo(empty, extra={"config.json": b"{}", "pytorch_model.bin": b"?"})

    result = desk.asr("models", "pull", "someone/pickles")

    assert result.returncode == 1
    assert "no checkpoint" in result.stderr
    assert hub.fetched == []


def test_a_model_of_another_kind_is_refused_after_the_download(desk: Desk, hub: FakeHub) -> None:
    config = json.loads((hub.repos[NAME].folder / "config.json").read_text())
    hub.repos[NAME].folder.joinpath("config.json").write_text(json.dumps(config | {"model_type": "whisper"}))

    result = desk.asr("models", "pull", NAME)

    assert result.returncode == 1
    assert 'model_type is "whisper"; expected "qwen3_asr"' in result.stderr


def test_a_full_disk_is_told_before_the_download(desk: Desk, hub: FakeHub) -> None:
    program = (
        "import shutil, sys; from types import SimpleNamespace; "
        "shutil.disk_usage = lambda path: SimpleNamespace(free=1000); "
        f"{COMMAND}"
    )

    result = desk.python(program, "models", "pull", NAME)

    assert result.returncode == 1
    assert "the disk has 1000" in result.stderr
    assert hub.fetched == []


def test_a_cache_that_cannot_be_written_is_named(desk: Desk, hub: FakeHub) -> None:
    blocked = desk.home / "file"
    blocked.write_text("not a folder")

    result = desk.asr("models", "pull", NAME, HF_HUB_CACHE=str(blocked))

    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", ["../up", "a/b/c", "a b", "@main", "a/b@", "", "/no/such/folder"])
def test_what_cannot_be_a_model_is_wrong_usage(desk: Desk, hub: FakeHub, name: str) -> None:
    assert desk.asr("models", "pull", name).returncode == 2
    assert hub.requests == []
