"""Feature extractors and blocks that several families share, under the key names of official checkpoints."""
