"""The entry of a job on a cluster: runs the command line with the interpreter that runs this file.

ray submit cluster.yaml cluster/job.py -- sweep configs/sweeps/overnight.yaml dataset=band
ray job submit --working-dir . -- /opt/samplernn/.venv/bin/python cluster/job.py sweep ...
"""

import os
import sys

if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != "--"]
    os.execv(sys.executable, [sys.executable, "-m", "orchestrator.cli", *words])
