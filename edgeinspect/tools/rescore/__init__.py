"""Rescoring: one engine over an archive of millions of frames, on Ray Data.

`plan` freezes which frames, in chunks; `scorer` judges a chunk; `runners` spread chunks over
processors or machines; `program` writes a part per chunk, so that it can go on after a kill.

Source: docs/plant.md
"""
