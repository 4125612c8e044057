"""Credentials: a text in, an `Identity` and its rights out. Pure."""
