"""``python -m doorbench`` is the command ``doorbench``."""

from bench.cli.app import main as main

if __name__ == "__main__":
    main()
