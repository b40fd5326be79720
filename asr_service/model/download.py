"""Getting a model from the hub into the cache.

* Only what a checkpoint needs is fetched: weights in safetensors, configuration and tokenizer, at the top of the repository.
* Files come one after the other, the weights last, and the revision's name points to the new commit only when all of them are
  there. What was complete before stays in use until then, and an interruption at any point leaves nothing half.
* A file that broke off is resumed by the next attempt.

The endpoint, the token, the cache and more are the library's own settings (HF_ENDPOINT, HF_TOKEN, HF_HUB_CACHE, ...).
"""

from __future__ import annotations

import errno
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr_service.engine.protocol import EngineFailed
from asr_service.model.checkpoint import missing_files
from asr_service.model.hub import HubModel, folder_of, library

OnProgress = Callable[[int, int], None]
"""Told how many bytes are there and how many there will be, from another thread, and at the end from the caller's."""

_SUFFIXES = (".json", ".txt", ".jinja", ".safetensors")  # in this order
_WEIGHTS = ".safetensors"
_LOOK_EVERY_S = 0.25
_API_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class _File:
    """`blob`: where the cache keeps it; while it is on its way its name ends in .incomplete."""

    name: str
    n_bytes: int
    blob: Path

    @property
    def n_there(self) -> int:
        for path in (self.blob, self.blob.with_name(f"{self.blob.name}.incomplete")):
            try:
                return min(path.stat().st_size, self.n_bytes)
            except OSError:
                continue
        return 0


def download(model_id: str, on_progress: OnProgress) -> Path:
    """The folder with the model's files, all of them fetched that were not there. A folder is returned as it is.

    Raises EngineFailed, saying what to do, when the hub cannot be reached, does not know the model or does not give it away, or
    the disk has no room for it.
    """
    if folder := folder_of(model_id):
        return folder
    model = HubModel.parse(model_id)
    hub = library()
    with _explained(model, hub):
        hub.utils.disable_progress_bars()
        commit, files = _list_files(model, hub)
        _check_room(model, files, Path(hub.constants.HF_HUB_CACHE))
        with _watched(files, on_progress):
            for file in files:
                hub.hf_hub_download(model.name, file.name, revision=commit)
        # By name this time, which makes the name point to what is complete now.
        folder = Path(hub.hf_hub_download(model.name, "config.json", revision=model.revision)).parent
    if lack := missing_files(folder):
        raise EngineFailed(f"{model} has changed on the hub while it was downloaded ({lack}); try again")
    return folder


def _list_files(model: HubModel, hub: Any) -> tuple[str, list[_File]]:
    """The commit, and the files that are needed, in the order in which to fetch them."""
    info = hub.HfApi().model_info(model.name, revision=model.revision, files_metadata=True, timeout=_API_TIMEOUT_S)
    blobs = (
        Path(hub.constants.HF_HUB_CACHE) / hub.file_download.repo_folder_name(repo_id=model.name, repo_type="model") / "blobs"
    )
    files = [
        _File(entry.rfilename, entry.size or 0, blobs / (entry.lfs.sha256 if entry.lfs else entry.blob_id or "unknown"))
        for entry in info.siblings or []
        if "/" not in entry.rfilename and entry.rfilename.endswith(_SUFFIXES)
    ]
    names = {file.name for file in files}
    if "config.json" not in names or not any(name.endswith(_WEIGHTS) for name in names):
        raise EngineFailed(f"{model}: no checkpoint: neither config.json nor weights in safetensors are among its files")
    return info.sha, sorted(files, key=lambda file: (file.name.endswith(_WEIGHTS), file.name))


def _check_room(model: HubModel, files: list[_File], cache: Path) -> None:
    needed = sum(file.n_bytes - file.n_there for file in files)
    place = next(path for path in (cache, *cache.parents) if path.exists())
    if needed > (free := shutil.disk_usage(place).free):
        raise EngineFailed(f"{model} needs {needed} more bytes in {cache}; the disk has {free} (HF_HUB_CACHE moves it)")


@contextmanager
def _watched(files: list[_File], on_progress: OnProgress) -> Iterator[None]:
    """Looks at the files now and then: the library tells nobody how far a single one is."""
    total = sum(file.n_bytes for file in files)
    finished = threading.Event()

    def look() -> None:
        while not finished.wait(_LOOK_EVERY_S):
            on_progress(sum(file.n_there for file in files), total)

    watcher = threading.Thread(target=look, name="download-progress", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        finished.set()
        watcher.join()
    on_progress(total, total)


@contextmanager
def _explained(model: HubModel, hub: Any) -> Iterator[None]:
    """Whatever the library and what it stands on raise, as one clear EngineFailed."""
    try:
        yield
    except EngineFailed:
        raise
    except Exception as error:
        raise EngineFailed(_explanation(model, hub, error)) from error


def _explanation(model: HubModel, hub: Any, error: Exception) -> str:
    kinds, endpoint = hub.errors, hub.constants.ENDPOINT
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, kinds.GatedRepoError):
        return f"{model} needs permission: accept its terms on {endpoint}/{model.name} and set HF_TOKEN to a token of yours"
    if isinstance(error, kinds.RevisionNotFoundError):
        return f"{model.name} has no revision {model.revision!r} on {endpoint}"
    if isinstance(error, kinds.RepositoryNotFoundError):
        return f"{model.name} is not on {endpoint}, or it is private and HF_TOKEN does not open it"
    if isinstance(error, kinds.HFValidationError):
        return f"{model.name!r} cannot be a name on the hub: {error}"
    if isinstance(error, kinds.OfflineModeIsEnabled):
        return f"{model} cannot be downloaded: HF_HUB_OFFLINE is set"
    if status in (401, 403):
        return f"{endpoint} does not give {model} away ({status}); set HF_TOKEN to a token that may read it"
    if status is not None:
        return f"{endpoint} answers {status} for {model}; try again later"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full: {model} does not fit into {hub.constants.HF_HUB_CACHE} (HF_HUB_CACHE moves it)"
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return f"{hub.constants.HF_HUB_CACHE} cannot be written: {error.strerror} (HF_HUB_CACHE moves it)"
    return f"{model} cannot be downloaded from {endpoint}: {_innermost(error)}; what is there is kept for the next attempt"


def _innermost(error: BaseException) -> str:
    """What was really the matter, below what the libraries wrapped it in."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    text = " ".join(str(error).split())
    return text[:300] or type(error).__name__
