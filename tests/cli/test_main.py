import subprocess
import sys
from importlib.metadata import EntryPoint

from typer.testing import CliRunner

from shared.cli.main import build_app


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "shared.cli.main", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_every_command_of_the_manual_is_there() -> None:
    result = run("--help")
    assert result.returncode == 0, result.stderr
    for name in ("up", "data", "train", "sweep", "jobs", "export", "models", "predict", "bench", "doctor"):
        assert f" {name} " in result.stdout, name


def test_help_does_not_load_what_is_heavy() -> None:
    program = (
        "import sys; sys.argv = ['sightline', '--help']\n"
        "from shared.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'cv2', 'onnxruntime', 'sqlalchemy', 'hydra', 'celery', 'mlflow'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_the_version_is_the_packages() -> None:
    assert run("--version").stdout.startswith("sightline 0.")


def test_a_command_whose_package_is_missing_says_which_and_what_to_do() -> None:
    point = EntryPoint(name="train", value="a_package_that_is_not_here:app", group="sightline.commands")
    doctor = EntryPoint(name="doctor", value="shared.cli.doctor:doctor", group="sightline.commands")
    result = CliRunner().invoke(build_app([point, doctor]), ["train", "person", "--anything", "a=b"])
    assert result.exit_code == 4
    assert "a_package_that_is_not_here" in result.stderr
    assert "hint" in result.stderr
