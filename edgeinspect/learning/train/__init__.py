"""Training, evaluation and export of the two models. Needs the extra `train`.

torch is imported by the modules of this package only, and by nothing that a line runs.
"""
