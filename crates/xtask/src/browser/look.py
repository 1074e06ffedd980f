# What is looked for on every page that a browser shows: whether it fits, what it is made of, what a keyboard
# shows, and what axe finds. `controls` shows each of them a page with just that fault: a check that finds nothing
# there fails the run.
import pathlib

import axe_playwright_python

AXE = (pathlib.Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

# What is wrong with the page as it is laid out. A page of another site (the processor's) has a frame of its own.
LAID_OUT = """
(ours) => {
  const wrong = [];
  const root = document.documentElement;
  if (!["ja", "en"].includes(root.lang)) wrong.push(`its lang is ${root.lang || "not said"}`);
  if (root.scrollWidth > root.clientWidth) wrong.push(`it is ${root.scrollWidth} wide on a screen of ${root.clientWidth}`);
  const count = (what) => document.querySelectorAll(what).length;
  for (const what of ours ? ["h1", "main", "body > header", "footer"] : ["h1", "main"])
    if (count(what) != 1) wrong.push(`it has ${count(what)} of ${what}`);
  for (const image of document.images)
    if (image.complete && image.naturalWidth == 0) wrong.push(`no picture came from ${image.currentSrc}`);
  return wrong;
}
"""

# Whether what has the focus can be told by looking.
FOCUSED = """
() => {
  const it = document.activeElement, style = getComputedStyle(it), box = it.getBoundingClientRect();
  const shown = style.outlineStyle != "none" && parseFloat(style.outlineWidth) >= 2;
  const inside = box.right > 0 && box.bottom > 0 && box.width > 0 && box.left < innerWidth;
  return [it.tagName, shown && inside];
}
"""

FOUND = """
async (rules) => {
  const found = await axe.run(document, { runOnly: rules });
  return found.violations.map((it) => `${it.id} (${it.impact}): ${it.nodes[0].html.slice(0, 120)}`);
}
"""


async def faults(page, ours=True):
    """What is wrong with the page, in words; nothing where all is well."""
    wrong = await page.evaluate(LAID_OUT, ours)
    await page.evaluate(AXE)
    return wrong + await page.evaluate(FOUND, RULES)


async def unseen_focus(page, presses):
    """What the Tab key leads to without it being seen."""
    unseen = []
    for nth in range(presses):
        await page.keyboard.press("Tab")
        tag, shown = await page.evaluate(FOCUSED)
        if not shown and tag != "BODY":
            unseen.append(f"the focus is not seen on {tag}, {nth + 1} from the top")
    return unseen


PLAIN = (
    '<!doctype html><html lang="en"><head><title>t</title></head><body><header>h</header><main><h1>h</h1>%s</main>'
    "<footer>f</footer></body></html>"
)


async def controls(page):
    """Each check is shown what it looks for."""
    for html, word in [
        (PLAIN % "<p>all is well</p>", None),
        (PLAIN.replace(' lang="en"', "") % "", "lang"),
        (PLAIN % '<div style="width:3000px">x</div>', "wide"),
        (PLAIN.replace("main>", "div>") % "", "of main"),
        (PLAIN % '<input name="x">', "label"),
        (PLAIN % '<p style="color:#bbb;background:#fff">pale</p>', "color-contrast"),
        (PLAIN % '<img src="data:image/png;base64,xx" alt="">', "no picture"),
        (PLAIN % '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">', "image-alt"),
    ]:
        await page.set_content(html)
        found = await faults(page)
        if word is None and found or word is not None and not any(word in it for it in found):
            raise AssertionError(f"looking for {word} in {html}: found {found}")
    for style, count in [("outline:none", 1), ("outline:3px solid", 0)]:
        await page.set_content(PLAIN % f'<a href="/" style="{style}">to</a>')
        found = await unseen_focus(page, 1)
        if len(found) != count:
            raise AssertionError(f"looking for the focus with {style}: found {found}")
