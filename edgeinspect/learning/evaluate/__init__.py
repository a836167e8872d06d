"""Evaluation of models: metrics with intervals, comparisons, explanations and reports."""

from edgeinspect.learning.evaluate.comparison import (
    ComparisonDocument,
    PairedComparison,
    compare_inspectors,
    compare_results,
)
from edgeinspect.learning.evaluate.evaluation import ErrorCosts, EvaluationResult, evaluate
from edgeinspect.learning.evaluate.explain.anomaly_map import MAP_TENSOR, open_anomaly_map
from edgeinspect.learning.evaluate.explain.explanation import (
    AUTO,
    GRADCAM,
    HeatmapMethod,
    choose_heatmap_method,
    explain_frame,
    image_files,
    read_frames,
)
from edgeinspect.learning.evaluate.image_source import ImageSource, ImageTruth, class_id_table
from edgeinspect.learning.evaluate.metrics.detection_by_size import DetectionBySize, recall_by_size
from edgeinspect.learning.evaluate.metrics.frame_results import FrameResult, FrameSample
from edgeinspect.learning.evaluate.metrics.kinds import (
    Classification,
    KindMetrics,
    mean_recall,
    predicted_kind,
)
from edgeinspect.learning.evaluate.metrics.paired_tests import DiscordantPairs
from edgeinspect.learning.evaluate.metrics.pixel_ranking import PixelRanking, PixelRankingResult
from edgeinspect.learning.evaluate.metrics.rates import estimate_rate, wilson_interval
from edgeinspect.learning.evaluate.metrics.roc import classifier_scores
from edgeinspect.learning.evaluate.metrics.segmentation import (
    confusion_matrix,
    iou_and_dice,
    segmentation_scores,
)
from edgeinspect.learning.evaluate.metrics.thresholds import (
    MIN_AREA_PX,
    NO_GATE,
    SplitScores,
    area_candidates,
    choose_class_thresholds,
    choose_gate_thresholds,
    line_metrics,
    summarise_outputs,
)
from edgeinspect.learning.evaluate.offline_inspector import OfflineInspector
from edgeinspect.learning.evaluate.open_dataset import open_image_source, sample_truth
from edgeinspect.learning.evaluate.open_model import (
    CHECKPOINT_FILE,
    DEFAULT_BACKEND,
    SingleModelStore,
    build_inspector,
    load_engine,
    load_line_inspector,
    resolve_model,
    with_line_thresholds,
)
from edgeinspect.learning.evaluate.reports.comparison_report import (
    DifferenceImages,
    describe_discordant_pairs,
    render_comparison,
)
from edgeinspect.learning.evaluate.reports.evaluation_report import render_evaluation
from edgeinspect.learning.evaluate.reports.per_image_table import per_image_csv
from edgeinspect.learning.evaluate.reports.plots import format_interval, format_percent
from edgeinspect.learning.evaluate.training_images import (
    NOT_ASKED,
    SPLIT_FILE_NAME,
    TrainingImages,
    TrainingKnowledge,
    find_training_images,
    inherited_files,
    training_knowledge,
    training_note,
)

__all__ = [
    # comparison
    "ComparisonDocument",
    "PairedComparison",
    "compare_inspectors",
    "compare_results",
    # evaluation
    "ErrorCosts",
    "EvaluationResult",
    "evaluate",
    # explain: anomaly map
    "MAP_TENSOR",
    "open_anomaly_map",
    # explain: explanation
    "AUTO",
    "GRADCAM",
    "HeatmapMethod",
    "choose_heatmap_method",
    "explain_frame",
    "image_files",
    "read_frames",
    # image source
    "ImageSource",
    "ImageTruth",
    "class_id_table",
    # metrics: detection by size
    "DetectionBySize",
    "recall_by_size",
    # metrics: frame results
    "FrameResult",
    "FrameSample",
    # metrics: kinds
    "Classification",
    "KindMetrics",
    "mean_recall",
    "predicted_kind",
    # metrics: paired tests
    "DiscordantPairs",
    # metrics: pixel ranking
    "PixelRanking",
    "PixelRankingResult",
    # metrics: rates
    "estimate_rate",
    "wilson_interval",
    # metrics: roc
    "classifier_scores",
    # metrics: segmentation
    "confusion_matrix",
    "iou_and_dice",
    "segmentation_scores",
    # metrics: thresholds
    "MIN_AREA_PX",
    "NO_GATE",
    "SplitScores",
    "area_candidates",
    "choose_class_thresholds",
    "choose_gate_thresholds",
    "line_metrics",
    "summarise_outputs",
    # offline inspector
    "OfflineInspector",
    # open dataset
    "open_image_source",
    "sample_truth",
    # open model
    "CHECKPOINT_FILE",
    "DEFAULT_BACKEND",
    "build_inspector",
    "SingleModelStore",
    "load_engine",
    "load_line_inspector",
    "resolve_model",
    "with_line_thresholds",
    # reports: comparison report
    "DifferenceImages",
    "describe_discordant_pairs",
    "render_comparison",
    # reports: evaluation report
    "render_evaluation",
    # reports: per-image table
    "per_image_csv",
    # reports: plots
    "format_interval",
    "format_percent",
    # training images
    "NOT_ASKED",
    "SPLIT_FILE_NAME",
    "TrainingImages",
    "TrainingKnowledge",
    "find_training_images",
    "inherited_files",
    "training_knowledge",
    "training_note",
]
