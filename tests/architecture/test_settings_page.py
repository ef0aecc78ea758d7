"""The settings page is what `rexecutor settings` prints."""

from pathlib import Path

from app.commands.settings import render

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_settings_page_holds_the_table_that_the_class_gives():
    assert render() in PAGE.read_text(encoding="utf-8")
