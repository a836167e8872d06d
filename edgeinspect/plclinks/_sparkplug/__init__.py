"""Sparkplug B: payloads and the edge node."""
