"""Demo answers: one that uses every supported Markdown format, and a long one."""

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

STORY: Final = """\
## The keeper of the cable

On the last rock before the open sea stood a small grey house, and in the house lived Ines, who looked after the cable.
The cable came out of the water on one side of the rock and went back into it on the other. Between the two ends it ran
across her table, through a brass box with a paper strip, and every word that travelled from one shore to the other
passed under her lamp.

Her rules were short, and they were painted above the door:

1. Write it down before you send it on.
2. Never send on what you have not written down.
3. If the light goes out, begin where the paper ends.

Most nights nothing happened. Merchants asked for prices, mothers asked for news, and a captain once ordered eleven
pairs of boots. Ines wrote each word on the strip, looked at it, and pressed the key that sent it on. It was slower than
letting the words run through, the engineers told her, by about the time of a breath. She answered that a breath was
cheap.

Then came the night of the great storm. At ten o'clock a doctor on the eastern shore began a long message to a ship's
surgeon in the west. A child was ill, the remedy was rare, and the instructions had forty steps. Ines wrote the first
step and sent it on. She wrote the second, and the third. At the nineteenth step the wind took the chimney, the lamp
went out, and the brass box fell silent.

She did not know which words had reached the other side. The surgeon did not know which words were still to come. The
doctor did not even know that anything was wrong, and was already at step twenty-six.

Ines lit a candle and looked at the strip. The last word on it was *warm*. So she knew three things: everything up to
*warm* was safe, nothing after *warm* had been promised to anyone, and the next word belonged exactly behind it. She
mended the wire with her own two hands, asked the west for the last word they had, and heard *warm*. She asked the
east to begin again after *warm*, and it did.

> It was the breath, the surgeon said later. You had written every word before I heard it, so there was nothing to
> guess.

The child recovered before the storm did. In spring the engineers returned with a faster box, one that let the words
run through without a pause. Ines thanked them, put it on the shelf beside the boots, and painted a fourth rule above
the door:

4. A word that someone has read is a word that must not be lost.

And if you pass the rock at night, and the sea is quiet, you can still hear it: a scratch of the pen, a pause as long
as a breath, and the click of the key.
"""
