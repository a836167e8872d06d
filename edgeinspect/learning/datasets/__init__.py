"""Image data sets: every layout is read into the same `Dataset` of samples."""

from edgeinspect.learning.datasets.archive_frames import (
    Correction,
    archive_dataset,
    read_corrections,
)
from edgeinspect.learning.datasets.arrays import ImageArrays, downsample_masks, load_strip
from edgeinspect.learning.datasets.bit_depth import find_bit_depth
from edgeinspect.learning.datasets.class_names import is_good_class
from edgeinspect.learning.datasets.contact_sheet import write_contact_sheet
from edgeinspect.learning.datasets.convert import Conversion, convert_dataset
from edgeinspect.learning.datasets.copies import exact_copies, without_copies_of_train
from edgeinspect.learning.datasets.dataset import (
    SPLITS,
    TEST,
    TRAIN,
    VAL,
    VOID,
    ClassMap,
    Dataset,
    LabelledBox,
    OnlyGoodError,
    Sample,
    SkippedImage,
    has_class,
)
from edgeinspect.learning.datasets.example_set import write_example_set
from edgeinspect.learning.datasets.export import LABELS_FILE, write_dataset
from edgeinspect.learning.datasets.files import images_below, printable_file_name
from edgeinspect.learning.datasets.findings import DatasetFinding, check_dataset
from edgeinspect.learning.datasets.groups import (
    OWN_GROUPS,
    GroupRule,
    GroupSummary,
    group_samples,
    groups_across_splits,
    summarise_groups,
)
from edgeinspect.learning.datasets.load import common_size, infer_channels, load_arrays
from edgeinspect.learning.datasets.open import NoLayoutError, open_dataset
from edgeinspect.learning.datasets.plain_folder import read_plain_folder
from edgeinspect.learning.datasets.scan import DatasetScan, scan_dataset
from edgeinspect.learning.datasets.split import join_groups, split_dataset
from edgeinspect.learning.datasets.split_file import (
    SplitRecord,
    apply_record,
    describe_change,
    file_digest,
    file_digests,
    load_split,
    names_hash,
    read_split,
    sample_digests,
    split_document,
    write_split,
)
from edgeinspect.learning.datasets.vocabulary import is_annotation_folder

__all__ = [
    # a data set and its samples
    "SPLITS",
    "TEST",
    "TRAIN",
    "VAL",
    "VOID",
    "ClassMap",
    "Dataset",
    "LabelledBox",
    "Sample",
    "SkippedImage",
    "has_class",
    # reading a folder
    "find_bit_depth",
    "images_below",
    "printable_file_name",
    "read_plain_folder",
    "is_annotation_folder",
    "is_good_class",
    "NoLayoutError",
    "OnlyGoodError",
    "open_dataset",
    # samples as arrays
    "ImageArrays",
    "common_size",
    "downsample_masks",
    "infer_channels",
    "load_arrays",
    "load_strip",
    # checking a data set
    "DatasetScan",
    "DatasetFinding",
    "check_dataset",
    "scan_dataset",
    "write_contact_sheet",
    # files with the same bytes
    "exact_copies",
    "without_copies_of_train",
    # groups
    "OWN_GROUPS",
    "GroupRule",
    "GroupSummary",
    "group_samples",
    "groups_across_splits",
    "join_groups",
    "summarise_groups",
    # splits
    "SplitRecord",
    "apply_record",
    "describe_change",
    "file_digest",
    "file_digests",
    "load_split",
    "names_hash",
    "read_split",
    "sample_digests",
    "split_dataset",
    "split_document",
    "write_split",
    # archives, and writing a data set
    "Conversion",
    "convert_dataset",
    "LABELS_FILE",
    "Correction",
    "archive_dataset",
    "read_corrections",
    "write_dataset",
    "write_example_set",
]
