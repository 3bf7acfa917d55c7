"""``python -m bench`` is ``doorbench``."""

from bench.cli import main

main()
