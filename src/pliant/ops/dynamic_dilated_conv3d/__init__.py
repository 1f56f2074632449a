"""Three-dimensional convolution with a dilation of its own at every position (D2Conv3D)."""
