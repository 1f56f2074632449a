"""A convolution that works only where its policy says so."""
