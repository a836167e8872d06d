"""Metrics over inspected frames: rates, ROC, segmentation, thresholds, paired tests."""
