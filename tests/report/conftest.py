"""For the tests of this folder: `profile_models` can be imported."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
