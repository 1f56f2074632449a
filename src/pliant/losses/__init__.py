"""Losses: functions of tensors, under their papers' names."""
