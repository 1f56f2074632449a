"""Attention that looks at a few points of a space-time volume."""
