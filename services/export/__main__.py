"""`python -m services.export`: serve until told to stop."""

from services.export.main import create_app
from services.export.settings import ExportServiceSettings
from shared.core.server import run_service

if __name__ == "__main__":
    run_service("export", create_app, ExportServiceSettings())
