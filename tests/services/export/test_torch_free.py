"""The service's own process never loads torch."""

import subprocess
import sys


def test_the_service_loads_no_torch() -> None:
    code = (
        "import sys, services.export.main, services.export.cli; "
        "print([name for name in ('torch', 'lightning', 'onnxscript', 'onnxruntime') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
