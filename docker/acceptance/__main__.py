"""`python3 docker/acceptance`: what it does stands in `acceptance.command`."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # started as a folder, it is no package yet
    from acceptance.command import main

    sys.exit(main())
