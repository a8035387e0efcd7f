"""Chips cut out of mosaics."""
