"""`wattkeeper release`."""

import asyncio
from datetime import timedelta
from pathlib import Path

from pydantic import Field

from wattkeeper.cli.agent_place import agent_settings
from wattkeeper.cli.command import Command, CommandError
from wattkeeper.values import Duration

_ANSWER_S = 30.0


class Release(Command):
    """Let go of the GPU driver for a while: for driver upgrades, GPU resets and MIG changes.

    The agent reads every counter, closes the driver and comes back by itself. What the GPU draws
    meanwhile is booked when its counter goes on unbroken, and shown as unmeasured time if not.

    Examples:
      wattkeeper release --for 10m                     every GPU
      wattkeeper release --gpu GPU-5c1f… --for 2m      one GPU; the others are metered on
    """

    gpu: str | None = Field(None, description="UUID of one GPU; all of them if not given")
    for_: Duration = Field(timedelta(minutes=10), alias="for", description="how long: 30s, 10m")
    data_dir: Path | None = Field(None, description="the agent's data_dir, if not the usual one")

    def run(self) -> int:
        """Ask the agent of this node."""
        from wattkeeper.agent import control

        folder = agent_settings(self.data_dir).data_dir
        meter = None if self.gpu is None else f"gpu/{self.gpu.removeprefix('gpu/')}"
        order = control.Order("release", meter, self.for_.total_seconds())
        try:
            answer = asyncio.run(control.ask(folder, order, _ANSWER_S))
        except PermissionError as error:
            raise CommandError("only the agent's user may do this: run it with sudo") from error
        except TimeoutError as error:
            raise CommandError("the agent did not answer within 30 s", code=1) from error
        except OSError as error:
            raise CommandError(
                f"no agent listens in {folder}: start it, or name its --data-dir", code=1
            ) from error
        if not answer["ok"]:
            raise CommandError(answer["error"])
        print("Released:", ", ".join(answer["released"]) or "nothing; no GPU is metered here")
        return 0
