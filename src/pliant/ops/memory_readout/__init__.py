"""Reading a memory of frames: every query position takes a softmax-weighted mean of the values stored."""
