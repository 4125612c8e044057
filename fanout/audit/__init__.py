"""Proves that subscribers are given what the log has, and publishers are told the truth: `fanout audit`."""
