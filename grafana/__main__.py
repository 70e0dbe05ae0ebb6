"""Write every dashboard's JSON."""

from pathlib import Path

from grafana.all import DASHBOARDS
from grafana.layout import rendered

FOLDER = Path(__file__).with_name("dashboards")


def main() -> None:
    """Write the files."""
    for board in DASHBOARDS:
        (FOLDER / f"{board.uid}.json").write_text(rendered(board), encoding="utf-8")


if __name__ == "__main__":
    main()
