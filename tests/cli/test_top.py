"""`wattkeeper top`: its lists, its keys, and itself in a terminal of 80 by 24."""

import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.aggregator.conftest import Centre
from tests.cli.conftest import Run
from tests.page.conftest import served
from tests.page.serving import SMALL, Served, serving
from wattkeeper.cli.keys import Decoder
from wattkeeper.cli.top_rows import Answers
from wattkeeper.cli.top_screen import Screen

__all__ = ["served"]

ROOT = Path(__file__).parents[2]
FLEET = {
    "as_of": "2026-11-28T08:00:03Z",
    "watts": 12_345.0,
    "gpus": 3,
    "nodes": {"live": 2, "silent": 1, "conflict": 0, "absent": 0, "off": 0},
    "allocated_idle_gpus": {"physics": 1},
}
WHO = {
    "cluster": "west",
    "job_id": "7",
    "account": "physics",
    "user": "zoë",
    "name": "train\x1b[2J",
}


def _device(gpu: int, watts: float | None, celsius: float | None, *held: Any) -> dict[str, Any]:
    return {
        "cluster": "west", "node": "n1", "meter": f"gpu/{gpu}", "component": "gpu", "gpu": gpu,
        "watts": watts, "celsius": celsius, "utilization": 0.5, "use": "busy" if held else "free",
        "held_by": list(held),
    }  # fmt: skip


DEVICES = [
    _device(0, 300.0, 70.0, WHO),
    _device(1, None, None),
    _device(2, 100.0, 88.0, WHO, WHO | {"job_id": "8"}),
]
ANSWERS = Answers(FLEET, DEVICES)


async def test_lists_for_scripts(centre: Centre, run: Run) -> None:
    """Each view as a table, JSON and CSV; sorted, and filtered."""
    await centre.fed()
    outcome = await run("top", "--view", "gpus", "--once")
    assert outcome.code == 0, outcome.err
    header, line, *_ = outcome.out.splitlines()
    assert ["node", "GPU", "power", "temp", "util", "use", "job", "who"] == header.split()
    assert " ".join(line.split()) == "node001 0 400 W 61 °C 90 % busy 123 alice"
    jobs = json.loads((await run("top", "--view", "jobs", "--format", "json")).out)
    (job,) = jobs["rows"]
    assert ("123", "alice", 1, 400.0) == tuple(job[k] for k in ("job", "user", "gpus", "watts"))
    assert jobs["fleet"]["watts"] == 500.0
    lines = (await run("top", "--format", "csv")).out.splitlines()
    assert lines[0] == "cluster,node,state,gpus,idle,watts,celsius,utilization,who"
    assert lines[1].startswith("west,node001,live,1,0,500.0,61.0,0.9,alice")
    assert (await run("top", "--filter", "nobody", "--format", "csv")).out.count("\n") == 1


async def test_wrong_use_and_outage(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A column that is none is 2, nobody who answers is 3."""
    outcome = await run("top", "--sort", "shoe")
    assert (2, True) == (outcome.code, "watts" in outcome.err)
    monkeypatch.setenv("WATTKEEPER_URL", "http://127.0.0.1:9")
    assert (await run("top", "--once")).code == 3


def _shown(screen: Screen, height: int = 24) -> list[str]:
    return [line.plain for line in screen.frame(ANSWERS, "", 80, height)]


def test_keys_sort_and_filter() -> None:
    """Arrows choose the column, figures begin with the greatest; words leave what has them."""
    screen = Screen(view="gpus")
    assert [row["gpu"] for row in screen.listed(ANSWERS)] == [0, 1, 2]
    for key in ("right", "right"):
        screen.press(key)
    assert [row["gpu"] for row in screen.listed(ANSWERS)] == [0, 2, 1]
    assert "power↓" in _shown(screen)[2]
    screen.press("r")
    assert [row["gpu"] for row in screen.listed(ANSWERS)] == [2, 0, 1]
    for key in ("/", *"zoë 8", "enter"):
        screen.press(key)
    assert [row["gpu"] for row in screen.listed(ANSWERS)] == [2]
    assert "/ zoë 8" in _shown(screen)[1]
    screen.press("escape")
    assert len(screen.listed(ANSWERS)) == 3


def test_a_job_is_what_its_gpus_are() -> None:
    """A shared GPU is split evenly; a name drives no terminal."""
    screen = Screen(view="jobs")
    listed = screen.listed(ANSWERS)
    found = {row["job"]: (row["gpus"], row["watts"], row["celsius"]) for row in listed}
    assert found == {"7": (1.5, 350.0, 88.0), "8": (0.5, 50.0, 88.0)}
    assert not any("\x1b" in line for line in _shown(screen))


NAMED = ("up", "down", "pageup", "pagedown", "home", "end", "tab", "backtab", "left", "right",
         "escape", "enter", "backspace")  # fmt: skip


@given(
    st.lists(st.sampled_from((*NAMED, *"qrs?h/ 123jkxé世"))),
    st.integers(1, 200),
    st.integers(2, 60),
)
def test_whatever_is_pressed_the_frame_fits(keys: list[str], width: int, height: int) -> None:
    """No line is longer than the terminal, and there are never too many."""
    screen = Screen()
    for key in keys:
        screen.press(key)
        lines = screen.frame(ANSWERS, "", width, height)
        assert len(lines) == height
        assert max(line.cell_len for line in lines) <= width


@given(st.text(), st.data())
def test_keys_survive_any_cut(text: str, data: st.DataObject) -> None:
    """What a terminal sends may arrive in any pieces: the keys are the same."""
    sent = (text.replace("\x1b", "") + "\x1b[A\x1b[5~\x1bOBx").encode("utf-8", "replace")
    whole = Decoder().feed(sent)
    assert whole[-4:] == ["up", "pageup", "down", "x"]
    cut = data.draw(st.integers(0, len(sent)))
    decoder = Decoder()
    assert decoder.feed(sent[:cut]) + decoder.feed(sent[cut:]) == whole


def test_an_escape_alone_is_a_key() -> None:
    """Once nothing followed it."""
    decoder = Decoder()
    assert decoder.feed(b"\x1b") == []
    assert decoder.flush() == ["escape"]
    assert decoder.flush() == []


class Terminal:
    """A program in a terminal, and what stands on its screen."""

    def __init__(self, url: str, *args: str) -> None:
        self.screen = pyte.Screen(80, 24)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self.fd, inside = pty.openpty()
        environ = {**os.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8"}
        for name in ("COLUMNS", "LINES"):  # these would stand for the size of the terminal
            environ.pop(name, None)
        self._program = subprocess.Popen(
            [sys.executable, "-m", "wattkeeper", "top", *args],
            stdin=inside, stdout=inside, stderr=inside, start_new_session=True,
            env={**environ, "WATTKEEPER_URL": url, "PYTHONPATH": str(ROOT / "daemon")},
        )  # fmt: skip
        os.close(inside)
        ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))

    def size(self, columns: int, lines: int) -> None:
        """Give it another size, as a window does."""
        ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.screen.resize(lines, columns)
        self.signal(signal.SIGWINCH)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._program.send_signal(number)

    def press(self, keys: str) -> None:
        """Send keys."""
        os.write(self.fd, keys.encode())

    def until(self, there: Callable[[list[str]], bool]) -> list[str]:
        """Return the lines of the screen once they are as they should be."""
        end = time.monotonic() + 30
        while not there(self.screen.display):
            assert time.monotonic() < end, "\n".join(self.screen.display)
            self._read(0.2)
        return list(self.screen.display)

    def stopped(self) -> bool:
        """Tell whether it is suspended."""
        state = Path(f"/proc/{self._program.pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state == "T"

    def end(self) -> int:
        """Wait for its end and return its exit code."""
        end = time.monotonic() + 30
        while self._program.poll() is None:
            assert time.monotonic() < end, "it does not end"
            self._read(0.2)
        self._read(0)
        return self._program.returncode

    def close(self) -> None:
        """End it whatever it does."""
        self._program.kill()
        self._program.wait()
        os.close(self.fd)

    def _read(self, timeout_s: float) -> None:
        if select.select([self.fd], [], [], timeout_s)[0]:
            try:
                data = os.read(self.fd, 65536)
            except OSError:  # Linux says so where the other side is closed
                return
            self.raw += data
            self._stream.feed(data)


def _has(*texts: str) -> Callable[[list[str]], bool]:
    return lambda lines: all(text in "\n".join(lines) for text in texts)


def _falling(lines: Sequence[str]) -> bool:
    degrees = [int(line.split("°C")[0].split()[-1]) for line in lines]
    return sorted(degrees, reverse=True) == degrees


def test_in_a_terminal(served: Served) -> None:
    """Views, sorting, filter, help and size by keys; the screen is given back at the end."""
    with closing(Terminal(served.url("large"), "--every", "1s")) as terminal:
        lines = terminal.until(_has("2,000 GPUs", "gpu001", "1-20 of 250"))
        assert lines[0].startswith("wattkeeper  1,0")
        assert lines[2].split()[:3] == ["node↑", "state", "GPUs"]
        terminal.press("\t")
        terminal.until(_has("1-20 of 2000", "node↑"))
        terminal.press("\x1b[C\x1b[C\x1b[C")
        terminal.until(lambda lines: "temp↓" in lines[2] and _falling(lines[3:-1]))
        terminal.press("\x1b[6~")
        terminal.until(_has("21-40 of 2000"))
        terminal.press("3/pretrain-7b\r")
        terminal.until(_has("of 16", "pretrain-7b"))
        terminal.press("?")
        terminal.until(_has("power, temperature and utilization"))
        terminal.press("?")
        terminal.size(100, 12)
        terminal.until(_has("1-8 of 16"))
        terminal.signal(signal.SIGTSTP)
        terminal.until(lambda _: terminal.stopped() and b"\x1b[?1049l" in terminal.raw)
        assert terminal.raw.count(b"\x1b[?1049h") == terminal.raw.count(b"\x1b[?1049l") == 1
        terminal.signal(signal.SIGCONT)
        terminal.until(lambda _: terminal.raw.count(b"\x1b[?1049h") == 2)
        terminal.press("q")
        assert terminal.end() == 0
        assert terminal.raw.count(b"\x1b[?1049l") == 2
        assert b"\x1b[?25h" in terminal.raw


def test_it_outlives_its_aggregator(tmp_path: Path) -> None:
    """It says since when nobody answers, and goes on when somebody does."""
    with ExitStack() as stack:
        with serving(tmp_path / "one", {"small": SMALL}) as first:
            url = first.url("small")
            terminal = stack.enter_context(closing(Terminal(url, "--every", "1s")))
            terminal.until(_has("8 GPUs"))
        terminal.until(_has("no answer since", "8 GPUs"))
        with serving(tmp_path / "two", {"small": SMALL}, port=int(url.rpartition(":")[2])):
            terminal.until(lambda lines: "no answer" not in "\n".join(lines))
            terminal.signal(signal.SIGTERM)
            assert terminal.end() == 0
