"""Frames and masks in and out of files, streams, folders; overlays and contact sheets. No torch in here."""
