"""Where a model's files are: in a folder, or in the Hugging Face cache of this machine. Nothing here uses the network.

A model id is an existing folder, or a name on the hub, with a revision where one is wanted: "Qwen/Qwen3-ASR-0.6B@main". The
cache and its place are the library's own (HF_HOME, HF_HUB_CACHE), so that models are shared with everything else that uses it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from asr_service.engine.protocol import EngineFailed
from asr_service.model.checkpoint import missing_files

INSTALL = "pip install -e '.[qwen3]'"
_NAME = re.compile(r"(?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*")
_REVISION = re.compile(r"[\w.-]+(?:/[\w.-]+)*")
_DEFAULT_REVISION = "main"


class BadModelId(EngineFailed):
    """Neither an existing folder nor a name that the hub could know."""


@dataclass(frozen=True, slots=True)
class HubModel:
    """A name on the hub and a branch, tag or commit of it."""

    name: str
    revision: str

    @classmethod
    def parse(cls, model_id: str) -> HubModel:
        """Raises BadModelId."""
        name, at, revision = model_id.partition("@")
        revision = revision if at else _DEFAULT_REVISION
        if not _NAME.fullmatch(name) or len(name) > 96 or ".." in model_id or not _REVISION.fullmatch(revision):
            raise BadModelId(f"{model_id!r} is neither an existing folder nor a name on the hub such as Qwen/Qwen3-ASR-0.6B")
        return cls(name, revision)

    def __str__(self) -> str:
        return self.name if self.revision == _DEFAULT_REVISION else f"{self.name}@{self.revision}"


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A checkpoint in the cache. `lack`: what is missing; empty where it is complete. `n_bytes`: of what is there."""

    model_id: str
    folder: Path
    n_bytes: int
    lack: str


def folder_of(model_id: str) -> Path | None:
    """The folder that a model id names, None for a name on the hub. Raises BadModelId for what is neither."""
    path = Path(model_id).expanduser()
    if model_id and path.is_dir():
        return path
    if path.is_file():
        raise BadModelId(f"{model_id}: is a file; expected a folder with a checkpoint, or a name on the hub")
    HubModel.parse(model_id)
    return None


def locate(model_id: str) -> Path:
    """The folder with the model's files. Raises EngineFailed, saying what to do, when they are not all on this machine."""
    if folder := folder_of(model_id):
        if lack := missing_files(folder):
            raise EngineFailed(f"{folder}: {lack}")
        return folder
    model = HubModel.parse(model_id)
    cached = cached_folder(model)
    if cached is None:
        raise EngineFailed(f"{model} is not on this machine; `asr models pull {model}` gets it")
    if lack := missing_files(cached):
        raise EngineFailed(f"{model} is not complete on this machine: {lack}; `asr models pull {model}` gets the rest")
    return cached


def is_on_disk(model_id: str) -> bool:
    """Whether all of the model's files are on this machine; whether they are any good, a start will tell."""
    try:
        locate(model_id)
    except EngineFailed:
        return False
    return True


def cached_folder(model: HubModel) -> Path | None:
    """The cache's folder for this revision, complete or not; None where there is none. Raises what `library` does."""
    found = library().try_to_load_from_cache(model.name, "config.json", revision=model.revision)
    return Path(found).parent if isinstance(found, str) else None


def local_models() -> Iterator[LocalModel]:
    """The Qwen3-ASR checkpoints in the cache, by name. Raises EngineFailed without the library."""
    hub = library()
    try:
        cache = hub.scan_cache_dir()
    except hub.errors.CacheNotFound:
        return
    for repo in sorted(cache.repos, key=lambda repo: str(repo.repo_id)):
        for revision in sorted(repo.revisions, key=lambda revision: revision.last_modified, reverse=True):
            folder = Path(revision.snapshot_path)
            if repo.repo_type != "model" or not _is_qwen3_asr(folder):
                continue
            named = sorted(revision.refs, key=lambda ref: ref != _DEFAULT_REVISION)
            model = HubModel(repo.repo_id, named[0] if named else revision.commit_hash)
            yield LocalModel(str(model), folder, revision.size_on_disk, missing_files(folder))


def library() -> ModuleType:
    """huggingface_hub, which is imported when a name on the hub is first asked for."""
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
        import huggingface_hub.file_download
        import huggingface_hub.utils
    except ImportError:
        raise EngineFailed(f"huggingface_hub is not installed ({INSTALL}); a folder with a checkpoint works without") from None
    return huggingface_hub


def _is_qwen3_asr(folder: Path) -> bool:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("model_type") == "qwen3_asr"
