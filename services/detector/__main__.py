"""`python -m services.detector`: serve until told to stop."""

from services.detector.dataplane.memory import bound_arenas
from services.detector.main import SERVICE, create_app
from services.detector.settings import DetectorSettings
from shared.core.server import run_service

if __name__ == "__main__":
    bound_arenas()
    settings = DetectorSettings()
    run_service(SERVICE, create_app, settings, lame_duck_s=settings.lame_duck_s)
