"""Shared memory: the folder, the frame ring, the side buffer."""

from edgeinspect.storage.shared_memory.folder import (
    FILE_MODE,
    allocate_file,
    check_folder_permissions,
    default_folder,
    find_line_folder,
    is_line_running,
    open_folder,
    open_line_file,
    replace_file,
    running_lines,
)
from edgeinspect.storage.shared_memory.frame_ring import FrameRing, FrameRingReader, ring_size_bytes
from edgeinspect.storage.shared_memory.side_buffer import SideBuffer, SideBufferReader

__all__ = [
    # folder
    "FILE_MODE",
    "allocate_file",
    "check_folder_permissions",
    "default_folder",
    "find_line_folder",
    "is_line_running",
    "open_folder",
    "open_line_file",
    "replace_file",
    "running_lines",
    # frame ring
    "FrameRing",
    "FrameRingReader",
    "ring_size_bytes",
    # side buffer
    "SideBuffer",
    "SideBufferReader",
]
