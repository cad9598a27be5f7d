"""`python -m nerite`: the same command as the `nerite` script."""

import sys

from nerite.cli import main

if __name__ == "__main__":
    sys.exit(main())
