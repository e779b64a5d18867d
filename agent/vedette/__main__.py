"""Floor 6: `python -m vedette`."""

import sys

from vedette.cli import main

if __name__ == "__main__":
    sys.exit(main())
