"""Words of a command line are what they were typed as: text stays text, numbers have to be such."""

from __future__ import annotations

from typing import Any

import fire
import pytest

from scripts.__main__ import keep_words
from scripts.commands import COMMANDS
from scripts.errors import InputError


@pytest.fixture
def type_words() -> Any:
    found: dict[str, Any] = {}

    def command(
        bundle: str,
        *images: str,
        out: str = "out",
        weights: str | None = None,
        jobs: int | None = None,
        spacing: float = 1.0,
        sizes: tuple[int, ...] = (),
        side: float | str | None = None,
        flag: bool = False,
    ) -> None:
        found.update(locals())

    commands = {"do": command}
    keep_words(commands)

    def run(*words: str) -> dict[str, Any]:
        fire.Fire(commands, command=["do", *words])
        return found

    return run


@pytest.mark.parametrize("word", ["501", "None", "True", "1e3", "[a", "{}", "0501", "1.50", "a,b", "'x'"])
def test_text_stays_what_was_typed(type_words: Any, word: str) -> None:
    found = type_words(word, word, word, f"--out={word}", f"--weights={word}")
    assert (found["bundle"], found["images"], found["out"], found["weights"]) == (word, (word, word), word, word)


def test_the_rest_is_read_as_ever(type_words: Any) -> None:
    found = type_words("b", "--jobs", "2", "--spacing", "2", "--sizes", "[4,8]", "--side", "none", "--flag")
    assert [found[name] for name in ("jobs", "spacing", "sizes", "side", "flag")] == [2, 2, [4, 8], "none", True]
    assert type_words("b", "--jobs", "None", "--side", "1.5")["jobs"] is None


@pytest.mark.parametrize(
    ("option", "line"),
    [
        ("--jobs=two", "--jobs two: give a whole number"),
        ("--jobs=1.5", "--jobs 1.5: give a whole number"),
        ("--jobs=True", "--jobs True: give a whole number"),
        ("--spacing=fine", "--spacing fine: give a number"),
        ("--spacing=[1]", "--spacing .1.: give a number"),
    ],
)
def test_what_is_no_number_is_refused(type_words: Any, option: str, line: str) -> None:
    with pytest.raises(InputError, match=line):
        type_words("b", option)


def test_help_shows_options_alone(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGER", "cat")
    keep_words(COMMANDS)
    with pytest.raises(SystemExit):
        fire.Fire(COMMANDS, command=["predict", "--help"])
    said = "".join(capsys.readouterr())
    assert "any_size" in said
    assert "METADATA" not in said
