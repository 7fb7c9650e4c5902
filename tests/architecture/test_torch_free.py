"""What serves must start quickly and stay small: torch is never loaded, not even by a detour."""

import subprocess
import sys

import pytest

PACKAGES = [
    "services.detector.main",
    "services.jobs.main",
    "services.export.main",
    "shared.cli.main",
    "shared.config",
    "shared.core.http",
    "shared.core.server",
    "shared.families",
    "shared.jobs.store",
    "shared.repository",
    "shared.vision.decode",
]


@pytest.mark.parametrize("module", PACKAGES)
def test_importing_it_in_a_fresh_process_loads_no_torch(module: str) -> None:
    program = (
        f"import sys, {module}\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "sys.exit(', '.join(sorted(loaded & {'torch', 'lightning', 'onnxscript', 'matplotlib'})) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
