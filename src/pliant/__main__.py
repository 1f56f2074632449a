"""``python -m pliant`` is the command ``pliant``."""

from pliant.cli import main

if __name__ == "__main__":
    main()
