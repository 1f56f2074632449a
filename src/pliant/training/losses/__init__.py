"""Losses: functions of tensors, one file each, named as their papers name them."""
