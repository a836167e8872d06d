"""The image archive on disk: format, index, status, reader."""
