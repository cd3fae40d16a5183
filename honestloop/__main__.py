"""python -m honestloop"""

import sys

from honestloop.cli import main

if __name__ == "__main__":
    sys.exit(main())
