"""Finished results: published folders, and the check of what others submit."""
