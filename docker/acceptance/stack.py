"""Steps that look at the stack as a whole: health, images, keys, Prometheus."""

import json
from collections.abc import Iterator

from acceptance.project import SERVICES, Project
from acceptance.waiting import Figures, Step, require, wait_for


class Stack:
    """Looks only; what it needs is a project that has been started."""

    def __init__(self, project: Project) -> None:
        self.project = project

    def first_steps(self) -> Iterator[Step]:
        yield "all services are healthy", self.all_healthy
        yield "images", self.images
        yield "a call without the key is refused", self.key_is_needed

    def last_steps(self) -> Iterator[Step]:
        yield "prometheus reaches every target", self.targets

    def all_healthy(self) -> Figures:
        expected = {
            name
            for name, service in self.project.config["services"].items()
            if service.get("profiles", ["cpu"]) == ["cpu"]
        }

        def healthy() -> bool:
            states = self.project.states()
            return {name for name, state in states.items() if state == "running (healthy)"} >= expected

        wait_for("healthy services", healthy, 180)
        return {"services": len(expected)}

    def images(self) -> Figures:
        sizes = {}
        for service in [*SERVICES, "mlflow"]:
            image = json.loads(self.project.docker("inspect", self.project.container(service)))[0]["Image"]
            sizes[service] = round(
                json.loads(self.project.docker("image", "inspect", image))[0]["Size"] / 1e6
            )
        for service in ("detector", "jobs", "export"):
            code = "import importlib.util as u; print([m for m in ('torch', 'training') if u.find_spec(m)])"
            found = self.project.compose("exec", "-T", service, "python", "-c", code).strip()
            require(found == "[]", f"{service} holds {found}")
        return {f"{service} MB": size for service, size in sizes.items()}

    def key_is_needed(self) -> Figures:
        for service, path in (("jobs", "/v1/jobs"), ("export", "/v1/runs"), ("detector", "/v1/models")):
            status, _ = self.project.request(service, "GET", path, key=False)
            require(status == 401, f"{service} answers {status} without a key")
            status, _ = self.project.request(service, "GET", "/livez", key=False)
            require(status == 200, f"/livez of {service} answers {status}")
        return {"status": 401}

    def targets(self) -> Figures:
        expected = {"detector", "jobs", "export", "worker", "prometheus"}

        def up() -> dict[str, str] | None:
            _, body = self.project.request("prometheus", "GET", "/api/v1/targets", key=False)
            active = json.loads(body)["data"]["activeTargets"]
            health = {target["labels"]["job"]: target["health"] for target in active}
            return health if health == dict.fromkeys(expected, "up") else None

        wait_for("every target up", up, 90)
        _, body = self.project.request("prometheus", "GET", "/api/v1/rules", key=False)
        rules = [rule for group in json.loads(body)["data"]["groups"] for rule in group["rules"]]
        broken = [rule["name"] for rule in rules if rule["health"] == "err"]
        require(not broken, f"rules that cannot be evaluated: {broken}")
        firing = sorted(rule["name"] for rule in rules if rule["state"] == "firing")
        return {"targets": len(expected), "rules": len(rules), "firing": ", ".join(firing) or "none"}
