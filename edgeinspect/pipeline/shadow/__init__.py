"""Shadow: a candidate model inspects copies of frames in idle time."""
