"""The image archive on disk: format, index, status, reader."""

from edgeinspect.storage.archive.format import (
    MARKER_FILE,
    PARTIAL_SUFFIX,
    SIDECAR_SUFFIX,
    ArchiveCategory,
    ArchiveMarker,
    ImageFile,
    Sidecar,
    encode_document,
    frame_folder,
    frame_name,
    is_archive,
    is_complete,
    read_marker,
    read_sidecar,
    sidecars,
    verdict_label,
)
from edgeinspect.storage.archive.index import ArchiveIndex
from edgeinspect.storage.archive.index_rows import IndexEntry, entry_from_sidecar
from edgeinspect.storage.archive.progress import ArchiveProgress, LossReason
from edgeinspect.storage.archive.reader import (
    FrameQuery,
    check_integrity,
    find_frame,
    find_frames,
    read_losses,
)
from edgeinspect.storage.archive.status import (
    STATUS_STALE_NS,
    ArchiveStatus,
    read_status,
    write_status,
)

__all__ = [
    # format
    "MARKER_FILE",
    "PARTIAL_SUFFIX",
    "SIDECAR_SUFFIX",
    "ArchiveMarker",
    "ArchiveCategory",
    "ImageFile",
    "Sidecar",
    "encode_document",
    "frame_folder",
    "frame_name",
    "is_archive",
    "is_complete",
    "read_marker",
    "read_sidecar",
    "sidecars",
    "verdict_label",
    # index
    "ArchiveIndex",
    # index rows
    "IndexEntry",
    "entry_from_sidecar",
    # progress
    "ArchiveProgress",
    "LossReason",
    # reader
    "FrameQuery",
    "check_integrity",
    "find_frame",
    "find_frames",
    "read_losses",
    # status
    "STATUS_STALE_NS",
    "ArchiveStatus",
    "read_status",
    "write_status",
]
