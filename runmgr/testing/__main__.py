"""``python -m runmgr.testing``."""

import sys

from runmgr.testing.command import main

if __name__ == "__main__":
    sys.exit(main())
