"""Publishing: verdicts to subscribers, replay and commands over the ROUTER."""
