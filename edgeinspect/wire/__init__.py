"""The wire: messages, requests, CURVE keys, and limits on clients."""
