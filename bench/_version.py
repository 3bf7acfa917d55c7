"""The version of the suite. It lies in a file of its own, so that a record can name it without importing the rest."""

__version__ = "0.1.0"
