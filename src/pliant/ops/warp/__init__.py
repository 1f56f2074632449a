"""Backward bilinear warp by a field of displacements."""
