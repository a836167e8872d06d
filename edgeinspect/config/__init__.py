"""Configuration: types, loading with every fault listed, and the hash verdicts carry."""
