"""``python -m bench`` is ``doorbench``."""

from doorbench.__main__ import main

main()
