"""Evaluation and comparison reports."""
