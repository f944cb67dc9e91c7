"""Markdown rendering in a browser, complete and while it streams."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.browser import Visitor
from tests.hostile_markdown import PAYLOADS
from tests.server_process import PROJECT, Service

pytestmark = pytest.mark.one_process("the page is the same on any of them")

DATA = PROJECT / "tests/data"
TOOLS = (DATA / "markdown-tools.js").read_text()
FAULTS = (DATA / "markdown-faults.js").read_text()
DOCUMENT = (DATA / "varied.md").read_text()
ARABIC = "\u0645\u0631\u062d\u0628\u0627"


def open_modules(visitor: Visitor, service: Service) -> Page:
    """Open a page that loads the modules one by one, in place of the joined script."""
    visitor.context.route("**/page.js", lambda route: route.fulfill(body="", content_type="text/javascript"))
    page = visitor.open(service)
    page.evaluate(TOOLS)
    return page


@pytest.fixture(scope="module")
def reader(browser: Browser, shared: Service) -> Iterator[Visitor]:
    """One visitor for all tests of this module."""
    visitor = Visitor(browser, permissions=["clipboard-read", "clipboard-write"])
    open_modules(visitor, shared)
    yield visitor
    visitor.close()
    visitor.check()


@pytest.fixture
def page(reader: Visitor) -> Page:
    page = reader.context.pages[0]
    page.evaluate("document.body.replaceChildren()")
    return page


def show(page: Page, text: str) -> str:
    """Return the normalized HTML of a complete text."""
    html: str = page.evaluate("(text) => normal(whole(text))", text)
    return html


def test_corpus_is_large_and_without_duplicates() -> None:
    assert len(PAYLOADS) == len(set(PAYLOADS)) >= 200


def test_hostile_markdown_neither_runs_nor_loads(page: Page, reader: Visitor) -> None:
    page.evaluate("whole('$x^2$\\n\\n```js\\nlet a;\\n```')")  # loads the libraries before requests are counted
    page.wait_for_function("() => settled() && document.querySelector('.hljs-keyword')")
    before = len(reader.requests)
    faults = page.evaluate(
        f"""(payloads) => {{
          const faultsIn = {FAULTS};
          const found = [];
          const note = (payload) => (element) => {{
            for (const fault of faultsIn(element)) found.push([payload, fault]);
          }};
          for (const payload of payloads) {{
            for (const text of [payload, `Text ${{payload}} text`, `- ${{payload}}\\n\\n> ${{payload}}`])
              note(text)(whole(text));
            write(`${{payload}}\\n\\nafter`, 3, note(payload)).element.remove();
          }}
          window.faultsIn = faultsIn;
          return found.slice(0, 20);
        }}""",
        PAYLOADS,
    )
    assert faults == []
    page.wait_for_function("() => settled()")
    # Trigger handlers that only run on interaction.
    page.evaluate(
        """() => {
          for (const type of ['click', 'mouseover', 'pointerenter', 'focus', 'toggle', 'error', 'load'])
            for (const node of document.querySelectorAll('.markdown *:not(a, button)'))
              node.dispatchEvent(new Event(type, {bubbles: false}));
        }"""
    )
    assert page.evaluate("[...document.querySelectorAll('.markdown')].flatMap(faultsIn)") == []
    assert page.evaluate("runs") == 0
    fetched = [address for address in reader.requests[before:] if not address.startswith("data:image/")]
    fonts = [address for address in fetched if "/web/vendor/fonts/" in address]
    assert fetched == fonts


@pytest.mark.parametrize("size", [1, 2, 3, 7, 16, 61, 250])
def test_streamed_text_ends_like_complete_text(page: Page, size: int) -> None:
    streamed, at_once = page.evaluate(
        "([text, size]) => [normal(write(text, size).element), normal(whole(text))]", [DOCUMENT, size]
    )
    assert streamed == at_once


AMBIGUOUS = "text\n***bold*** more\n\nnext\n```x`y` z\n\na | b\n--|--x\n\n- a\n\n-b\n\nc\n#d\n\ne\n<div\nf"


@pytest.mark.parametrize(("text", "size"), [(DOCUMENT, 9), (AMBIGUOUS, 1)], ids=["varied", "ambiguous"])
def test_partial_text_looks_like_the_same_text_at_once(page: Page, text: str, size: int) -> None:
    differing = page.evaluate(
        """([text, size]) => {
          const differing = [];
          let length = 0;
          write(text, size, (element) => {
            length += size;
            const other = fresh();
            other.set(text.slice(0, length), false);
            if (normal(element) !== normal(other.element)) differing.push(text.slice(length - 30, length));
            other.element.remove();
          });
          return differing;
        }""",
        [text, size],
    )
    assert differing == []


def test_link_definition_with_a_long_title_is_recognized_in_the_end(page: Page) -> None:
    text = 'see [t]\n\n[t]: https://example.com/\n"a title\n\nthat goes on"\n\nend'
    streamed, at_once = page.evaluate("(text) => [normal(write(text, 1).element), normal(whole(text))]", text)
    assert streamed == at_once


def test_long_streamed_text_ends_like_complete_text(page: Page) -> None:
    text = "\n\n".join(DOCUMENT.replace("later", f"later{number}") for number in range(30))
    streamed, at_once = page.evaluate(
        "([text]) => [normal(write(text, 997).element), normal(whole(text))]", [text + "\n```\n"]
    )
    assert len(text) > 2 * 16_384
    assert streamed == at_once


def test_all_line_endings_are_equal(page: Page) -> None:
    text = "a\n\n- b\n- c\n\n```\nd\n```\n"
    for ends in ("\r\n", "\r"):
        assert show(page, text.replace("\n", ends)) == show(page, text)


def test_finished_blocks_keep_their_nodes(page: Page) -> None:
    kept = page.evaluate(
        """(text) => {
          const seen = new Set();
          const shown = write(text, 5, (element) => {
            const blocks = [...element.querySelectorAll(':scope > *, :scope > .chunk > *')];
            for (const block of blocks.slice(0, -3)) seen.add(block);
          });
          const gone = [...seen].filter((block) => !shown.element.contains(block));
          return {all: seen.size, gone: gone.map((block) => block.outerHTML)};
        }""",
        DOCUMENT,
    )
    assert kept["gone"] == []
    assert kept["all"] > 20


@pytest.mark.parametrize(
    ("text", "inner"),
    [
        ("\n".join(f"- item **{number}** of many" for number in range(30)), "li"),
        ("| a | b |\n|---|---|\n" + "\n".join(f"| cell {number} | *b* |" for number in range(30)), "td"),
        ("\n".join(f"> line {number}\n>" for number in range(30)), "p"),
    ],
)
def test_growing_list_table_and_quote_keep_their_nodes(page: Page, text: str, inner: str) -> None:
    kept = page.evaluate(
        """([text, inner]) => {
          const seen = new Set();
          const {element} = write(text, 4, (element) => {
            for (const node of [...element.querySelectorAll(inner)].slice(0, -4)) seen.add(node);
          });
          return [seen.size, [...seen].every((node) => element.contains(node))];
        }""",
        [text, inner],
    )
    assert kept[0] >= 20
    assert kept[1]


def test_growing_paragraph_keeps_its_nodes(page: Page) -> None:
    assert (
        page.evaluate(
            """() => {
          const seen = new Set();
          write('some **bold** text and `code` and $x^2$ and more, **more** text', 3, (element) => {
            if (element.textContent.includes('more')) seen.add([...element.querySelectorAll('strong, code, .math')][0]);
          });
          return seen.size;
        }"""
        )
        == 1
    )


def test_growing_code_is_appended(page: Page) -> None:
    text = "```python\n" + "".join(f"x{number} = {number}\n" for number in range(200)) + "```\n\nafter"
    nodes, code = page.evaluate(
        """(text) => {
          const seen = new Set();
          const shown = write(text, 5, (element) => {
            if (element.children.length === 1) seen.add(element.querySelector('code')?.firstChild);
          });
          return [seen.size, shown.element.querySelector('code').textContent];
        }""",
        text,
    )
    assert nodes == 2  # none before the opening fence, then one
    assert code == text.removeprefix("```python\n").removesuffix("\n```\n\nafter")


def test_open_markup_looks_as_if_closed(page: Page) -> None:
    def open_text(text: str) -> str:
        shown: str = page.evaluate(
            "(text) => { const m = fresh(); m.set(text, false); return m.element.innerHTML }", text
        )
        return shown.replace(' class="caret"', "")

    assert open_text("some **bold") == '<p dir="auto">some <strong>bold</strong></p>'
    assert open_text("some `code") == '<p dir="auto">some <code>code</code></p>'
    assert open_text("a [link](https://exam") == '<p dir="auto">a link</p>'
    assert "```" not in open_text("```\ncode\n``")


def test_text_is_rendered_when_no_more_arrives(page: Page) -> None:
    page.evaluate("() => { const m = fresh(); for (const text of ['a', 'a b', 'a b c']) m.set(text, false) }")
    page.wait_for_function("() => document.querySelector('.markdown').textContent === 'a b c'")


def test_complete_code_is_highlighted_and_copied(page: Page) -> None:
    page.evaluate("whole('```python\\ndef f():\\n    return \"<b>\"\\n```')")
    page.wait_for_selector(".hljs-keyword")
    assert page.text_content("code") == 'def f():\n    return "<b>"'
    page.get_by_role("button", name="Copy").click()
    page.get_by_role("button", name="Copied").wait_for()
    page.evaluate("document.body.append(document.createElement('textarea'))")
    page.focus("textarea")
    page.keyboard.press("Control+V")
    assert page.input_value("textarea") == 'def f():\n    return "<b>"'


def test_code_is_highlighted_while_it_grows_and_loses_nothing(page: Page) -> None:
    page.evaluate(
        """() => {
          window.growing = fresh();
          growing.set('```python\\ndef first():\\n    return 1\\ndef sec', false);
        }"""
    )
    page.wait_for_selector(".hljs-keyword")
    assert page.text_content("code") == "def first():\n    return 1\ndef sec"
    page.evaluate("growing.set('```python\\ndef first():\\n    return 1\\ndef second():\\n    pass', false)")
    page.wait_for_function("() => document.querySelector('code').textContent.endsWith('def second():\\n    pass')")
    assert page.locator(".hljs-keyword").count() >= 2  # of the first pass, until the next one
    page.evaluate("growing.set('```python\\ndef first():\\n    return 1\\n```', true)")
    page.wait_for_function("() => document.querySelector('code').textContent === 'def first():\\n    return 1'")


def test_code_can_be_wrapped_and_saved(page: Page) -> None:
    page.evaluate("whole('```python\\nprint(1)\\n```')")
    page.get_by_role("button", name="Wrap").click()
    assert page.locator("pre").evaluate("box => getComputedStyle(box).whiteSpace") == "pre-wrap"
    page.get_by_role("button", name="Do not wrap").click()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download").click()
    assert saved.value.suggested_filename == "code.py"
    assert saved.value.path().read_text() == "print(1)"


def test_table_is_copied_as_csv(page: Page) -> None:
    page.evaluate("""whole('| a | b |\\n|---|---|\\n| 1, 2 | say "x" |\\n| **3** | `4` |')""")
    page.get_by_role("button", name="Copy as CSV").click()
    page.get_by_role("button", name="Copied").wait_for()
    page.evaluate("document.body.append(document.createElement('textarea'))")
    page.focus("textarea")
    page.keyboard.press("Control+V")
    assert page.input_value("textarea") == 'a,b\n"1, 2","say ""x"""\n3,4\n'


def test_alerts_have_a_title_and_other_quotations_none(page: Page) -> None:
    page.evaluate("whole('> [!WARNING]\\n> Mind the **gap**.\\n\\n> [!NOTE]\\n> - one\\n\\n> [!nothing]\\n> quoted')")
    assert page.locator(".alert").all_inner_texts() == ["Warning\n\nMind the gap.", "Note\n\none"]
    assert page.locator(".alert.warning strong").count() == 1
    assert page.locator("blockquote").inner_text() == "[!nothing] quoted"


def test_details_fold_markdown(page: Page) -> None:
    text = "<details><summary>More <b>of</b> it</summary>\n\n- one\n\n```\nx\n```\n\n</details>\n\nafter"
    page.evaluate("(text) => { write(text, 3); }", text)
    assert page.locator("summary").inner_text() == "More of it"
    assert page.locator("details li, details code").count() == 2
    assert page.locator("details ~ p").inner_text() == "after"
    assert "<details" not in show(page, "<details><summary>open</summary>\n\nnever closed")


def test_footnotes_lead_to_their_text_and_back_within_one_answer(page: Page) -> None:
    text = "One[^b], two[^a] and [^none].\n\n[^b]: First **note**\n[^a]: Second\n\n    goes on\n\nafter[^b]"
    page.evaluate("(text) => { write(text, 2); write(text, 2); }", text)
    answers = page.locator("body > .markdown")
    assert answers.nth(1).locator(".footnote").all_inner_texts() == ["1\n\nFirst note", "2\n\nSecond\n\ngoes on"]
    assert answers.nth(1).locator("p").all_inner_texts()[0] == "One1, two2 and [^none]."
    assert page.evaluate("document.querySelectorAll('.markdown [id], .markdown [href]').length") == 0
    answers.nth(1).get_by_role("button", name="Footnote 1", exact=True).last.click()
    active = (
        "(answer) => [...document.querySelectorAll('.markdown')].indexOf(document.activeElement.closest('.markdown'))"
    )
    assert (page.evaluate(active), page.evaluate("document.activeElement.innerText")) == (1, "First note")
    answers.nth(1).get_by_role("button", name="Footnote 1: back to the text").click()
    assert page.evaluate("document.activeElement.closest('p').innerText") == "after1"  # the one that was pressed
    answers.nth(0).get_by_role("button", name="Footnote 2: back to the text").click()
    assert page.evaluate("document.activeElement.closest('p').innerText") == "One1, two2 and [^none]."
    assert page.evaluate(active) == 0


def test_aligned_html_and_markdown(page: Page) -> None:
    text = (
        "<div align='center'>\n\n# Title\n\n**bold**\n\n</div>\n\n"
        "<p align=right>end</p>\n\n<table><tr><td align=center>cell</td></tr></table>\n\n<p align=top>plain</p>"
    )
    page.evaluate("(text) => { write(text, 3); }", text)
    for selector, expected in [(".aligned h3", "center"), ("p:text('end')", "right"), ("td", "center")]:
        style = "element => getComputedStyle(element).textAlign.replace('-webkit-', '')"
        assert page.locator(selector).evaluate(style) == expected
    assert page.locator(".aligned strong").count() == 1
    assert page.locator("p:text('plain')").get_attribute("align") is None
    assert "&lt;div" in show(page, "<div align=center>\n\nnever closed")


def test_caret_is_at_the_end_of_the_last_line(page: Page) -> None:
    for text, tag in [
        ("a", "P"),
        ("- a\n- b", "P"),
        ("> a", "P"),
        ("| a |\n|---|\n| b |", "TD"),
        ("```\nx\ny", "CODE"),
    ]:
        found = page.evaluate(
            """(text) => {
              const shown = fresh();
              shown.set(text, false);
              const carets = [...shown.element.querySelectorAll('.caret')].map((one) => one.tagName);
              shown.set(text, true);
              return [carets, shown.element.querySelectorAll('.caret').length];
            }""",
            text,
        )
        assert found == [[tag], 0], text


def test_chemistry_is_rendered(page: Page) -> None:
    page.evaluate(r"whole('Water is $\\ce{H2O}$, $\\pu{1.2e3 kJ}$ and $x$.')")
    page.wait_for_function("() => settled()")
    assert page.locator(".math .katex").count() == 3
    assert page.locator(".math msub").count() == 1


def test_formulas_are_rendered_with_mathml(page: Page) -> None:
    page.evaluate(r"whole('$$\\frac{a}{b}$$\n\n\\(x^2\\) and $\\pmb{y} \\fcolorbox{red}{blue}{z}$ and $\\nonsense{$')")
    page.wait_for_function("() => settled()")
    assert page.locator(".katex-display mfrac").count() == 1
    assert page.locator(".katex msup").count() == 1
    assert page.locator(".math.broken").text_content() == r"\nonsense{"


def test_copied_formula_is_its_source(page: Page) -> None:
    page.evaluate(r"whole('Let $x^2$ be\n\n$$\\frac{a}{b}$$\n\n- end')")
    page.wait_for_function("() => settled()")
    page.evaluate("document.body.append(document.createElement('textarea'))")

    def copy(selection: str) -> str:
        page.evaluate(f"document.activeElement.blur(), {selection}")
        page.keyboard.press("Control+C")
        page.focus("textarea")
        page.keyboard.press("Control+A")
        page.keyboard.press("Control+V")
        return page.input_value("textarea")

    whole = copy("getSelection().selectAllChildren(document.querySelector('.markdown'))")
    assert whole.split() == ["Let", "$x^2$", "be", r"$$\frac{a}{b}$$", "end"]
    assert whole.startswith("Let $x^2$ be\n")
    part = copy("getSelection().selectAllChildren(document.querySelector('.math .katex-html .mord'))")
    assert part.strip() == "$x^2$"


def test_wide_table_scrolls_instead_of_breaking_words(page: Page) -> None:
    words = ["Internationalization", "compatibility", "recommendation", "throughput", "documentation"]
    row = "| " + " | ".join(words) + " |\n"
    page.evaluate("(text) => whole(text)", row + "|---" * len(words) + "|\n" + row)
    whole = page.viewport_size
    page.set_viewport_size({"width": 390, "height": 780})
    lines, scrolls, overflows = page.evaluate(
        """() => {
            const range = document.createRange();
            const lines = [...document.querySelectorAll('th, td')].map((cell) => {
                range.selectNodeContents(cell);
                return new Set([...range.getClientRects()].map(({ top }) => top)).size;
            });
            const box = document.querySelector('.table-scroll');
            const root = document.documentElement;
            return [lines, box.scrollWidth > box.clientWidth, root.scrollWidth > root.clientWidth];
        }"""
    )
    assert whole is not None
    page.set_viewport_size(whole)
    assert set(lines) == {1}
    assert scrolls
    assert not overflows


@pytest.mark.parametrize(
    "text", ["$5 and $10", "$HOME and $PATH", "costs 5$, or 10$ more", "US$ 5 a$b", "$ x $", "$5-$10"]
)
def test_amounts_of_money_are_not_formulas(page: Page, text: str) -> None:
    assert show(page, text) == f'<p dir="auto">{text}</p>'


@pytest.mark.parametrize("tex", ["x", "x^2", "n-1", r"\alpha", "f(x)", "a + b", "2x", "a = b"])
def test_formulas_between_dollars_are_recognized(page: Page, tex: str) -> None:
    assert show(page, f"is ${tex}$.") == f'<p dir="auto">is <span class="math" dir="ltr">{tex}</span>.</p>'


def test_image_from_another_server_becomes_a_link(page: Page) -> None:
    cat, rel = "https://example.com/cat.png", "noopener noreferrer nofollow"
    assert show(page, f"![cat]({cat})") == f'<p dir="auto"><a href="{cat}" rel="{rel}" target="_blank">cat</a></p>'
    dot = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
    assert show(page, f"![dot]({dot})") == f'<p dir="auto"><img alt="dot" src="{dot}"></p>'


def test_link_with_a_later_definition_becomes_a_link(page: Page) -> None:
    counts = page.evaluate(
        """() => {
          const m = fresh(), counts = [];
          const pieces = ['see [this]\\n\\nand\\n\\n', 'more\\n\\n', '[this]: https://example.com/\\n\\n', 'end\\n\\n'];
          for (const text of pieces) {
            m.restUntil = 0;
            m.set(m.text + text, false);
            counts.push(m.element.querySelectorAll('a').length);
          }
          return counts;
        }"""
    )
    assert counts == [0, 0, 1, 1]


def test_right_to_left_text_has_its_direction(page: Page) -> None:
    page.evaluate("(text) => whole(text)", f"hello\n\n{ARABIC}\n\n- {ARABIC}\n- b\n\n```\n{ARABIC}\n```")
    directions = page.evaluate(
        "() => [...document.querySelectorAll('.markdown > *')].map((block) => getComputedStyle(block).direction)"
    )
    assert directions == ["ltr", "rtl", "rtl", "ltr"]


HOSTILE: dict[str, str] = {
    "emphasis": "*a_" * 10_000,
    "brackets": "[" * 20_000,
    "quotes": "> " * 20_000 + "x",
    "nested lists": "\n".join("  " * depth + "- a" for depth in range(150)),
    "backticks": " ".join("`" * length for length in range(1, 200)),
    "tags": "<b>" * 10_000,
    "formulas": "$x_{" * 5_000 + "\\(" * 5_000,
    "a wide table": "|a" * 1000 + "|\n" + "|-" * 1000 + "|\n" + "|x" * 1000 + "|",
    "definitions": "[x]: x\n" * 2_000,
}
SLOW = {  # each took between 2 and 20 seconds before it was limited
    "a long word": "a" * 90_000 + "@",
    "a long attribute": "<b " + "a" * 90_000 + ">b</b>",
    "tags that do not end": "<div>\n" + "<a " * 12_000 + "</a " * 12_000 + "</div ",
    "lists in lists on a line": "- " * 40_000 + "b",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_expensive_text_is_shown_completely(page: Page, name: str) -> None:
    lost = page.evaluate(
        """(text) => {
          const element = write(text, Math.ceil(text.length / 5)).element;
          const letters = (text) => text.replace(/[^a-wyz]/g, '').length;
          for (const button of element.querySelectorAll('button')) button.remove();
          return letters(text) - letters(element.textContent);
        }""",
        HOSTILE[name] + "\n\nend",
    )
    assert lost == 0


@pytest.mark.parametrize("name", SLOW)
def test_expensive_text_does_not_block_the_page(page: Page, name: str) -> None:
    spent = page.evaluate(
        """(text) => {
          const begun = performance.now();
          whole(text);
          return performance.now() - begun;
        }""",
        SLOW[name],
    )
    assert spent < 1500


def test_embedded_image_is_not_a_long_word(page: Page) -> None:
    picture = "data:image/png;base64," + "A" * 50_000
    assert page.evaluate("(text) => whole(text).querySelector('img').src", f"See ![it]({picture}).") == picture


def test_updates_of_a_long_answer_cost_the_same(page: Page) -> None:
    text = "\n\n".join(f"## Part {number}\n\n{DOCUMENT[:-20]}\n\n~~~\n~~~" for number in range(25))[:40_000]
    unread, first, last = page.evaluate(
        """async (text) => {
          const script = document.querySelector('script[type=module]').src;
          const {BlockReader} = await import(new URL('markdown/reader.js', script));
          const reader = new BlockReader();
          const observer = new MutationObserver(() => {});
          const unread = [], mutations = [];
          write(text, 16, (element) => {
            mutations.push(observer.takeRecords().length);
            observer.observe(element, {subtree: true, childList: true, characterData: true, attributes: true});
            reader.read(text.slice(0, 16 * mutations.length), false);
            unread.push(16 * mutations.length - reader.offset);
          });
          const quarter = mutations.length >> 2;
          const most = (counts) => Math.max(...counts);
          return [most(unread), most(mutations.slice(0, quarter)), most(mutations.slice(-quarter))];
        }""",
        text,
    )
    assert unread < 1000, "characters that are read again with each update"
    assert last <= 2 * first, "changes of the document in one update"


def test_undecided_line_is_held_back(page: Page) -> None:
    text = "1. One\n2. Another\n   - with a detail\n\nText\n- item\n\n## Heading\n\nMore\n\n---\n\nend"
    kinds = page.evaluate(
        """(text) => {
          const kinds = [];
          write(text, 1, (element) => {
            for (const heading of element.querySelectorAll('h3, h4, h5')) kinds.push(heading.textContent);
          });
          return [...new Set(kinds)].filter((kind) => !'Heading'.startsWith(kind) || kind === '');
        }""",
        text,
    )
    assert kinds == []


def test_long_text_is_rendered_in_slices_with_the_same_result(page: Page) -> None:
    text = "".join(f"{DOCUMENT}\n\nPart {number} [^{number}] and [a link][l]\n\n" for number in range(60))
    text += "[l]: https://example.org\n\n[^1]: A note\n\nThe end"
    assert len(text) > 80_000
    chunks, opened, streamed, first, replaced = page.evaluate(
        """async (text) => {
            const ends = (shown) => shown.element.textContent.endsWith('The end');
            const opened = fresh();
            opened.set(text, true);
            const first = opened.element.textContent.length;
            const replaced = fresh();
            replaced.set(text, true);
            replaced.set('Another text', true);
            const streamed = write(text, 20000);
            while (!ends(opened) || !ends(streamed)) await new Promise(requestAnimationFrame);
            while (document.querySelector('.waiting')) await new Promise(requestAnimationFrame);
            await new Promise((resolve) => setTimeout(resolve, 50));
            const chunks = opened.element.querySelectorAll('.chunk').length;
            return [chunks, normal(opened.element), normal(streamed.element), first, replaced.element.textContent];
        }""",
        text,
    )
    assert chunks > 20, "parts that the browser skips while they are out of view"
    assert opened == streamed
    assert first < len(text) / 2
    assert replaced == "Another text"
