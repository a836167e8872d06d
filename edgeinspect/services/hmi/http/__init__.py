"""The HTTP server of the HMI, with limits for each client."""
