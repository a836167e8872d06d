"""The operating system and untrusted input: files, log, systemd, real-time settings, decoding."""
