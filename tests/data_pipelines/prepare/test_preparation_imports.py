"""A process that only reads and filters starts without torch."""

import subprocess
import sys


def test_scanning_needs_no_torch():
    code = "import sys, triptych.data_pipelines.prepare.preparation; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
