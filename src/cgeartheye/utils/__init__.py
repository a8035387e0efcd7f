"""Basics that every room uses: errors, files, messages on the console, fonts."""
