"""Masks: encoding, label maps, pairing with images."""
