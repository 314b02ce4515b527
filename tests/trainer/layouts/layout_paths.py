"""Imported for its effect: makes the tests' shared modules importable, whoever imports from this folder."""

import sys
from pathlib import Path

_TESTS = Path(__file__).resolve().parents[2]
sys.path += [str(folder) for folder in (_TESTS, _TESTS / "trainer") if str(folder) not in sys.path]
