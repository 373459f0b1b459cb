"""``python -m runmgr``."""

import sys

from runmgr.cli import main

if __name__ == "__main__":
    sys.exit(main())
