"""``python -m flywheel.cli`` is ``flywheel``."""

from flywheel.cli import main

if __name__ == "__main__":
    main()
