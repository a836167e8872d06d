"""The long-running processes. None imports another."""
