"""Shared by all GenICam cameras: settings, pixel formats, triggers, clocks and losses."""
