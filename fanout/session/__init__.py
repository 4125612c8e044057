"""One client's conversation as a state machine: commands in, effects out, no I/O."""
