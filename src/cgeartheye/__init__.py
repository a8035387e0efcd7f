"""CGEarthEye: a vision foundation model for sub-metre satellite imagery.

Importing the package is free: every heavy library is imported by the room that needs it.
"""

__version__ = "0.1.0"
