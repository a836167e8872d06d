"""Image and mask files, letterboxing, blobs, run-length masks, synthetic strip and washers."""

from edgeinspect.imaging.blobs import Blobs, find_blobs
from edgeinspect.imaging.class_colors import CLASS_COLORS, class_color, class_color_bgr
from edgeinspect.imaging.depth_declaration import check_depth_declared, declared_depth_warning
from edgeinspect.imaging.formats.detection import (
    DATASET_PIXELS_MAX,
    LINE_PIXELS_MAX,
    StoredBitDepth,
    check_size,
    read_displayed_size,
    read_stored_bit_depth,
)
from edgeinspect.imaging.image_file import (
    read_image,
    read_image_bytes,
    read_native,
    read_verified_bytes,
)
from edgeinspect.imaging.image_names import IMAGE_SUFFIXES, image_label, is_hidden, is_image_name
from edgeinspect.imaging.letterbox import (
    fit_into,
    letterbox_image,
    letterbox_mask,
    upsample_class_map,
)
from edgeinspect.imaging.mask_file import COLOR_FLAG, read_mask_values
from edgeinspect.imaging.read_settings import (
    BIT_DEPTHS,
    COLOR_AS_STORED,
    DECLARATION_FILE,
    BitDepth,
    ColorOrder,
    ReadDeclaration,
    ReadSettings,
    load_declaration,
    smallest_bit_depth,
    to_channels,
    to_color_order,
)
from edgeinspect.imaging.run_length import (
    decode_classes,
    decode_runs,
    detect_run_direction,
    encode_classes,
    encode_runs,
    format_runs,
    parse_runs,
)
from edgeinspect.imaging.synthetic_strip import render_strip
from edgeinspect.imaging.synthetic_washer import WASHER_CLASSES, render_washer

__all__ = [
    # blobs
    "Blobs",
    "find_blobs",
    # class colors
    "CLASS_COLORS",
    "class_color",
    "class_color_bgr",
    # depth declaration
    "check_depth_declared",
    "declared_depth_warning",
    # formats: limits of the size
    "DATASET_PIXELS_MAX",
    "LINE_PIXELS_MAX",
    "check_size",
    # formats: stored bit depth
    "StoredBitDepth",
    "read_stored_bit_depth",
    # formats: size by the headers
    "read_displayed_size",
    # image file
    "read_image",
    "read_image_bytes",
    "read_native",
    "read_verified_bytes",
    # image names
    "IMAGE_SUFFIXES",
    "image_label",
    "is_hidden",
    "is_image_name",
    # letterbox
    "fit_into",
    "letterbox_image",
    "letterbox_mask",
    "upsample_class_map",
    # mask file
    "COLOR_FLAG",
    "read_mask_values",
    # read settings
    "BIT_DEPTHS",
    "COLOR_AS_STORED",
    "DECLARATION_FILE",
    "BitDepth",
    "ColorOrder",
    "ReadDeclaration",
    "ReadSettings",
    "load_declaration",
    "smallest_bit_depth",
    "to_channels",
    "to_color_order",
    # run length
    "decode_classes",
    "decode_runs",
    "detect_run_direction",
    "encode_classes",
    "encode_runs",
    "format_runs",
    "parse_runs",
    # synthetic images
    "WASHER_CLASSES",
    "render_strip",
    "render_washer",
]
