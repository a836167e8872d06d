"""The HTTP server of the HMI and its limits."""
