"""Inspection: engines, the decision, worker threads."""
