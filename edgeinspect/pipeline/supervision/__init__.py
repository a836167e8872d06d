"""Supervision: liveness, alarms, the status once a second."""
