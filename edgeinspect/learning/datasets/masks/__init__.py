"""Masks: their sources, encoding, label maps, and pairing with images."""
