"""What stores send."""

from __future__ import annotations

from pydantic import BaseModel, Field


class AppleNotification(BaseModel):
    """App Store Server Notifications, version 2: `responseBodyV2`."""

    signedPayload: str = Field(description="A JWS of the App Store.")  # noqa: N815  Apple's name
