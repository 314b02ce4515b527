"""Importing this makes the fixtures of the folder above importable, whichever tests were asked for."""

import sys
from pathlib import Path

_LAUNCH = Path(__file__).parent.parent

if str(_LAUNCH) not in sys.path:
    sys.path.append(str(_LAUNCH))
