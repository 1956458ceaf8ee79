"""The benchmarks are scripts, which find their parts beside themselves; so must their tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
