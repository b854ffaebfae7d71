from __future__ import annotations

import subprocess
import sys


def test_importing_the_wrappers_loads_nothing_heavy():
    program = (
        "import sys; from spie_robo.wrappers import RealismWrapper, VectorRealismWrapper;"
        "print(sorted({'torch', 'diffusers', 'zarr', 'cv2', 'skimage'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout.strip() == "[]", run.stderr
