"""`python -m mbcompress`."""

import sys

from mbcompress.cli import main

if __name__ == "__main__":
    sys.exit(main())
