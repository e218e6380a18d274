"""``python -m tests.simulated --drawn``, or ``--from 0 --seeds 2000``, or ``--seed 7`` for one."""

import sys

from tests.simulated.running import main

if __name__ == "__main__":
    sys.exit(main())
