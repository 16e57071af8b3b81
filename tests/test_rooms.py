"""The map of rooms in CONTRIBUTING.md has every room, and no other."""

from __future__ import annotations

import re

from scripts.bundles import ROOT


def test_the_map_has_every_room_once() -> None:
    rooms = (ROOT / "CONTRIBUTING.md").read_text().partition("| room of `scripts/` |")[2].partition("\n\n")[0]
    lines = [line.split("|")[1] for line in rooms.splitlines()[2:]]
    told = [name for line in lines for name in re.findall(r"`([\w./]+)`", line)]
    there = [path for path in (ROOT / "scripts").iterdir() if path.name not in ("__init__.py", "__pycache__")]
    assert sorted(told) == sorted(path.name + "/" * path.is_dir() for path in there if path.suffix in ("", ".py"))
