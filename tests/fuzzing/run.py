"""`python tests/fuzzing/run.py` tries the numbers of damaged inputs that the project promises; see `supervision.py`."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parent.parent)  # not this folder: its modules are those of a package
    from fuzzing.supervision import main

    sys.exit(main())
