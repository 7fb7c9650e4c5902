"""`python -m services.detector`: serve until told to stop."""

from services.detector.main import SERVICE, create_app
from services.detector.settings import DetectorSettings
from shared.core.server import run_service

if __name__ == "__main__":
    settings = DetectorSettings()
    run_service(SERVICE, create_app, settings, lame_duck_s=settings.lame_duck_s)
