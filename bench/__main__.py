"""``python -m bench`` is ``doorbench``."""

from bench.cli.app import main

main()
