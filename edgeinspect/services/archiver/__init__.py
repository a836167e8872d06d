"""The archive: pictures worth keeping, with their verdicts, in a process of its own.

`catching` hears the line and copies pictures out of its shared memory at once; `waiting` holds
them; `writing` encodes and saves them; `index` knows what there is; `policy` says what is kept
and what goes first. `keeper` puts them together. The line never waits for any of this.

Source: docs/archive.md
"""
