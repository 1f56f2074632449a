"""The specification of deform_conv2d is that of deform_conv3d, which takes any number of axes."""

from pliant.ops.deform_conv3d.reference import deform_conv

__all__ = ["deform_conv"]
