"""The design tokens keep the contrast that docs/design-system.md states."""

from __future__ import annotations

import re

import pytest

from tests.server_process import PROJECT

TOKENS = (PROJECT / "chatapi/web/style/tokens.css").read_text()
ROOT = TOKENS.partition("}")[0]
COLOURS = {name: values for name, *values in re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", ROOT)}
ACCENTS = {
    name: values
    for name, *values in re.findall(
        r'\[data-accent="(\w+)"\] \{\s*--accent: light-dark\((#\w{6}), (#\w{6})\);\s*\}', TOKENS
    )
}
DOCUMENT = (PROJECT / "docs/design-system.md").read_text()
PAIRS = re.findall(r"^\| `--([\w-]+)` on `--([\w-]+)` \| (.+) \| ([\d.]+) \| ([\d.]+) \|$", DOCUMENT, re.MULTILINE)


def luminance(colour: str) -> float:
    """Return the relative luminance of #rrggbb (WCAG 2.2)."""
    channels = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(("front", "back", "use", "light", "dark"), PAIRS)
def test_documented_contrast_is_right_and_sufficient(front: str, back: str, use: str, light: str, dark: str) -> None:
    for theme, documented in enumerate((light, dark)):
        found = contrast(COLOURS[front][theme], COLOURS[back][theme])
        assert f"{found:.1f}" == documented
        assert found >= (3 if "(3 is required)" in use else 4.5)


def test_every_accent_has_the_contrast_of_text_in_both_themes() -> None:
    assert len(ACCENTS) == TOKENS.count("[data-accent=") == 6
    assert ACCENTS["teal"] == COLOURS["accent"]
    for name, accent in ACCENTS.items():
        for back in ("back", "side", "raised", "code", "hover"):
            for theme in (0, 1):
                found = contrast(accent[theme], COLOURS[back][theme])
                assert found >= 4.5, f"{name} on {back}: {found:.1f}"


def test_every_pair_is_documented_once() -> None:
    assert len(PAIRS) == len({pair[:2] for pair in PAIRS}) >= 15


def test_styles_use_the_tokens() -> None:
    used, defined = set(), set()
    for sheet in (PROJECT / "chatapi/web/style").glob("*.css"):
        text = sheet.read_text()
        used |= set(re.findall(r"var\(--([\w-]+)\)", text))
        defined |= set(re.findall(r"--([\w-]+):", text))
        if sheet.name != "tokens.css":
            assert not re.findall(r"#[0-9a-f]{3,8}\b", text), f"{sheet.name} has a colour of its own"
    assert used <= defined
