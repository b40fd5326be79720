"""The contract as a descriptor set, which the transcoder reads. `make generate` writes it; with --check it is only compared."""

from __future__ import annotations

import sys

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.rpc import error_details_pb2, status_pb2

from asr_service.pb.asr.v1 import asr_pb2
from envoy.front import DESCRIPTORS

_SERVICE = asr_pb2.DESCRIPTOR.services_by_name["AsrService"]

SERVICE_NAME: str = _SERVICE.full_name
METHODS: tuple[str, ...] = tuple(method.name for method in _SERVICE.methods)


def descriptor_set() -> bytes:
    """The contract with all that it imports, and the details of errors: nothing imports these, and an error that carries one
    which the transcoder does not know becomes an empty answer."""
    found: dict[str, FileDescriptor] = {}
    for root in (asr_pb2.DESCRIPTOR, status_pb2.DESCRIPTOR, error_details_pb2.DESCRIPTOR):
        _collect(root, found)
    made = FileDescriptorSet()
    for file in found.values():
        made.file.add().ParseFromString(file.serialized_pb)
    return made.SerializeToString(deterministic=True)


def _collect(file: FileDescriptor, found: dict[str, FileDescriptor]) -> None:
    """Those that are imported come first."""
    for imported in file.dependencies:
        if imported.name not in found:
            _collect(imported, found)
    found.setdefault(file.name, file)


def main() -> None:
    made = descriptor_set()
    if "--check" not in sys.argv[1:]:
        DESCRIPTORS.write_bytes(made)
    elif not DESCRIPTORS.is_file() or DESCRIPTORS.read_bytes() != made:
        sys.exit(f"{DESCRIPTORS.name} is not what proto/ says; run `make generate`")


if __name__ == "__main__":
    main()
