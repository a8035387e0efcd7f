"""Chips measured, and the bad ones dropped."""
