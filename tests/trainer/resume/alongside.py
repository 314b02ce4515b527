"""Importing this makes the runs of the folders above and beside importable, whichever tests were asked for."""

import sys
from pathlib import Path

_TRAINER = Path(__file__).parent.parent

sys.path += [str(folder) for folder in (_TRAINER, _TRAINER / "layouts") if str(folder) not in sys.path]
