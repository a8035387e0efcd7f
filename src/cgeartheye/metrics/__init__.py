"""Metrics of every task, and probes of frozen features."""
