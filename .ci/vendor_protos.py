"""Copies the google/api and google/rpc protos that the contract imports to build/googleapis, where buf finds them."""

import shutil
from importlib.metadata import files
from pathlib import Path

TARGET = Path("build/googleapis")
WANTED = {
    "google/api/annotations.proto",
    "google/api/http.proto",
    "google/api/httpbody.proto",
    "google/rpc/code.proto",
    "google/rpc/error_details.proto",
    "google/rpc/status.proto",
}


def main() -> None:
    found = {str(f): Path(str(f.locate())) for f in files("googleapis-common-protos") or [] if str(f) in WANTED}
    if missing := WANTED - found.keys():
        raise SystemExit(f"googleapis-common-protos lacks {sorted(missing)}")
    for name, source in found.items():
        (TARGET / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, TARGET / name)


if __name__ == "__main__":
    main()
