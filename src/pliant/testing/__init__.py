"""Holding implementations against each other: parity with official networks, and what tests share."""
