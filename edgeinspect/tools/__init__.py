"""Offline tools: bench, doctor, demo, replay, rescore, archive export."""
