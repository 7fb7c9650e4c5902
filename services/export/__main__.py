"""`python -m services.export`: serve until told to stop."""

from services.export.main import create_app
from services.export.settings import ExportServiceSettings
from shared.core.logging import configure_logging
from shared.core.server import serve
from shared.core.settings import CommonSettings


def main() -> None:
    settings, service = CommonSettings(), ExportServiceSettings()
    configure_logging(settings, "export")
    serve(
        lambda: create_app(settings, service),
        host=service.host,
        port=service.port,
        settings=settings,
        drain_s=service.drain_s,
    )


if __name__ == "__main__":
    main()
