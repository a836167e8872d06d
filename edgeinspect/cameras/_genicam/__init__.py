"""What all GenICam cameras share: settings, pixel formats, triggers, clocks, losses."""
