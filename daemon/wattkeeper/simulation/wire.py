"""The way from a simulated node to its centre: real bodies, real answers, no socket."""

import msgspec

from wattkeeper.agent.transport import RefusedError, UnreachableError
from wattkeeper.delivery.wire import Ack, Batch, WireError, pack
from wattkeeper.ledger.refusal import Refusal
from wattkeeper.simulation.centre import Centre
from wattkeeper.simulation.member import Member


class Wire:
    """A transport to a `Centre` in the same process, answering as the HTTP layer does."""

    def __init__(self, member: Member, centre: Centre) -> None:
        self._member = member
        self._centre = centre

    async def send(self, batch: Batch) -> Ack:
        """Deliver one batch; see `agent.transport.Transport`."""
        if not self._member.reachable:
            raise UnreachableError("the network is cut")
        try:
            ack = self._centre.accept(pack(batch))
        except ConnectionError as error:
            raise UnreachableError(str(error)) from error
        except Refusal as refusal:
            raise RefusedError(refusal.kind, refusal.detail) from refusal
        except WireError as error:
            raise RefusedError("invalid", str(error)) from error
        return msgspec.json.decode(msgspec.json.encode(ack), type=Ack)

    async def close(self) -> None:
        """Nothing to let go of."""
