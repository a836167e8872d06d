"""Training and export of gate and segmenter. Needs the extra `train`.

torch is imported by the modules of this package alone, never by a process of the line.
"""
