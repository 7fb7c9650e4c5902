"""`python -m services.jobs`: serve until told to stop."""

from services.jobs.main import create_app
from services.jobs.settings import JobsServiceSettings
from shared.core.server import run_service

if __name__ == "__main__":
    run_service("jobs", create_app, JobsServiceSettings())
