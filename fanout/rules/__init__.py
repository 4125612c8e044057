"""Rules as users write them: what of the log reaches which channel, and where what clients publish is written."""
