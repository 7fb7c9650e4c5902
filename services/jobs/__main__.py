"""`python -m services.jobs`: serve until told to stop."""

from services.jobs.main import create_app
from services.jobs.settings import JobsServiceSettings
from shared.core.logging import configure_logging
from shared.core.server import serve
from shared.core.settings import CommonSettings


def main() -> None:
    settings, service = CommonSettings(), JobsServiceSettings()
    configure_logging(settings, "jobs")
    serve(
        lambda: create_app(settings, service),
        host=service.host,
        port=service.port,
        settings=settings,
        drain_s=service.drain_s,
    )


if __name__ == "__main__":
    main()
