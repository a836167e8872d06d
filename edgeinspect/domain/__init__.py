"""The nouns of the line: clock, frame, tensor, verdict. No input or output happens here."""
