"""The endpoints of the protocol; each only reads its request, asks and writes the answer."""

from fastapi import APIRouter

from services.detector.oip.routes import health, infer, models, repository

router = APIRouter(tags=["open inference protocol"])
for part in (health, models, infer, repository):
    router.include_router(part.router)
