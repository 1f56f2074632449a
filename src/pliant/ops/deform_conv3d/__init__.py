"""Three-dimensional deformable convolution: free offsets, optional modulation."""
