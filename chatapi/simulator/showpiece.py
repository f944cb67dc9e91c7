"""A demo answer that uses every supported Markdown format."""

from __future__ import annotations

from typing import Final

MARKDOWN: Final = """\
# What can be formatted

Text can be **bold**, *slanted* or ~~struck out~~, hold `code` and [links](https://example.org/), and lists:

1. One thing
2. Another
   - with a detail
   - [x] and one that is done

> What somebody else said.

## Code

```python
def greet(name: str) -> str:
    \"\"\"Say hello.\"\"\"
    return f"Hello, {name}!"  # for anyone
```

## A table

| Planet | Moons | Day in hours |
|:-------|------:|-------------:|
| Earth  |     1 |         23.9 |
| Mars   |     2 |         24.6 |
| Saturn |   274 |         10.7 |

## Formulas

The roots of $ax^2 + bx + c$ are

$$x = \\frac{-b \\pm \\sqrt{b^2 - 4ac}}{2a}$$

and some text that runs the other way:

שלום, זהו משפט בעברית.
"""
