"""Image data sets: every layout is read into the same `Dataset` of samples."""

from edgeinspect.learning.datasets.archive_frames import (
    Correction,
    archive_dataset,
    read_corrections,
    upsample_class_map,
)
from edgeinspect.learning.datasets.arrays import ImageArrays, downsample_masks, load_strip
from edgeinspect.learning.datasets.bit_depth import find_bit_depth
from edgeinspect.learning.datasets.contact_sheet import write_contact_sheet
from edgeinspect.learning.datasets.dataset import (
    SPLITS,
    TEST,
    TRAIN,
    VAL,
    VOID,
    ClassMap,
    Dataset,
    Sample,
    SkippedImage,
    has_class,
)
from edgeinspect.learning.datasets.export import LABELS_FILE, write_dataset
from edgeinspect.learning.datasets.files import images_below
from edgeinspect.learning.datasets.findings import Finding, check_dataset
from edgeinspect.learning.datasets.load import common_size, infer_channels, load_arrays
from edgeinspect.learning.datasets.open import open_dataset
from edgeinspect.learning.datasets.scan import DatasetScan, scan_dataset
from edgeinspect.learning.datasets.split import read_split, split_dataset, write_split
from edgeinspect.learning.datasets.vocabulary import is_annotation_folder

__all__ = [
    # archive frames
    "archive_dataset",
    "upsample_class_map",
    # arrays
    "ImageArrays",
    "downsample_masks",
    "load_strip",
    # bit depth
    "find_bit_depth",
    # contact sheet
    "write_contact_sheet",
    # corrections
    "Correction",
    "read_corrections",
    # dataset
    "SPLITS",
    "TEST",
    "TRAIN",
    "VAL",
    "VOID",
    "ClassMap",
    "Dataset",
    "Sample",
    "SkippedImage",
    "has_class",
    # export
    "LABELS_FILE",
    "write_dataset",
    # files
    "images_below",
    # findings
    "Finding",
    "check_dataset",
    # folder names
    "is_annotation_folder",
    # load
    "common_size",
    "infer_channels",
    "load_arrays",
    # open
    "open_dataset",
    # scan
    "DatasetScan",
    "scan_dataset",
    # split
    "read_split",
    "split_dataset",
    "write_split",
]
