"""Annotations as people draw them: shapes, how they become masks, and the files that hold them.

Each format has a layout in `edgeinspect/learning/datasets/layouts/` that parses its files into
`AnnotatedImage`s; all that follows is the same for every format (`annotated_set.py`).
"""
