"""What the aggregator bears: limits that no fleet of ten thousand agents touches."""

from datetime import timedelta

from pydantic import Field, field_validator

from wattkeeper.listening.connection import Limits
from wattkeeper.settings import Duration, Section


class LimitsSection(Section):
    """What is too much. Defaults leave room for 10,000 agents behind one address."""

    connections: int = Field(32_768, ge=16, le=1 << 20, description="connections in all")
    connections_per_address: int = Field(
        16_384, ge=16, le=1 << 20, description="connections of one address; a NAT is one"
    )
    questions: float = Field(
        200, gt=0, le=1e6, description="questions of one caller a second; 30 s of them at once"
    )
    deliveries: float = Field(
        10, gt=0, le=1e6, description="deliveries of one node a second; 30 s of them at once"
    )
    entries: float = Field(
        100,
        ge=100,
        le=1e6,
        description="new holders, epochs and meters of one node a second; 300 s of them at once",
    )
    bodies: int = Field(
        256, ge=8, le=1 << 16, description="MiB of deliveries that are being received at once"
    )
    nodes: int = Field(50_000, ge=1, le=10_000_000, description="nodes that may have books here")
    header_timeout: Duration = Field(
        timedelta(seconds=10), description="for a TLS handshake, and for the header of a request"
    )
    body_timeout: Duration = Field(
        timedelta(seconds=60), description="for a body to arrive, and for an answer to move on"
    )

    @field_validator("header_timeout", "body_timeout")
    @classmethod
    def _sensible(cls, value: timedelta) -> timedelta:
        if not 1 <= value.total_seconds() <= 600:
            raise ValueError("is out of range; choose between 1s and 10m")
        return value

    @property
    def of_connections(self) -> Limits:
        """Those that the listener keeps."""
        return Limits(
            connections=self.connections,
            per_address=self.connections_per_address,
            header_s=self.header_timeout.total_seconds(),
            body_s=self.body_timeout.total_seconds(),
            answer_s=self.body_timeout.total_seconds(),
        )
