"""Builds the native kernels of csrc/ where a compiler and PyTorch are at hand; without them pliant works, slower.

Everything else is in pyproject.toml.
"""

from setuptools import setup

setup()
