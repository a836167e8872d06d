"""Pictures: the synthetic strip, letterboxing, regions and run-length masks. No line here."""
