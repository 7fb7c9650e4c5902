"""How much memory every service has used at most, as Docker saw it."""

import json

from acceptance.project import Project
from acceptance.waiting import Figures

_UNITS_MIB = {"B": 1 / 2**20, "KiB": 1 / 2**10, "MiB": 1.0, "GiB": 2.0**10}


class MemoryWatch:
    """Keeps the largest sample of each service; `sample` is called while the others wait."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._peaks_mib: dict[str, float] = {}

    def sample(self) -> None:
        names = {self._project.container(name): name for name in self._project.states()}
        arguments = ("--no-stream", "--no-trunc", "--format", "json")
        for line in self._project.docker("stats", *arguments).splitlines():
            record = json.loads(line)
            service = names.get(record["ID"])
            if service:
                mib = round(parse_mib(record["MemUsage"].split(" / ")[0]), 1)
                self._peaks_mib[service] = max(self._peaks_mib.get(service, 0.0), mib)

    def peaks(self) -> Figures:
        self.sample()
        return {f"{service} MiB": mib for service, mib in sorted(self._peaks_mib.items())}


def parse_mib(text: str) -> float:
    """Return the MiB that Docker writes as `12.5MiB`, `1.2GiB` or `900KiB`."""
    unit = text.lstrip("0123456789.")
    return float(text.removesuffix(unit)) * _UNITS_MIB[unit]
