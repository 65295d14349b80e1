"""For the tests of this folder: small models and tables, some in other folders, are found."""

import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / name) for name in ("cost", "deploy", "lut")]
