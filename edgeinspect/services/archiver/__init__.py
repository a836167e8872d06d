"""The archiver: saves useful frames with their verdicts, in a process of its own.

`subscriber` receives verdicts and copies frames out of the line's shared memory, `write_queue`
holds them, `writer` encodes and saves them, `retention_policy` decides what is kept and what is
evicted first. The line never waits for any of this.

Source: docs/howto/archive.md
"""
