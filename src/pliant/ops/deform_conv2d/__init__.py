"""Two-dimensional deformable convolution."""
