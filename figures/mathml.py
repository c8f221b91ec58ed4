"""Text with LaTeX between dollar signs, as HTML with MathML."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from latex2mathml.converter import convert
from markupsafe import Markup, escape

# An escaped dollar is a dollar; display mathematics is set inline, for statements are sentences.
PARTS = re.compile(r"(?<!\\)\$\$?((?:\\.|[^$\\])+?)\$\$?", re.DOTALL)

# What a formula may become. Anything else, such as a tag smuggled through \text{}, is refused.
ELEMENTS = re.findall(
    r"\w+",
    """math mrow mi mn mo mtext mspace mstyle mpadded mphantom msub msup msubsup mover munder
    munderover mfrac msqrt mroot mtable mtr mtd menclose mfenced mmultiscripts mprescripts none""",
)
FORBIDDEN_ATTRIBUTES = frozenset(("href", "style", "class", "id", "src", "xlink:href"))
NAMESPACE = "{http://www.w3.org/1998/Math/MathML}"


def mathematics(text: str) -> Markup:
    """``text`` escaped, with every formula between dollars as MathML; an odd dollar stays text.

    A formula that cannot be converted is shown as its LaTeX source, and marked as such.
    """
    result, position = Markup(), 0
    for match in PARTS.finditer(text):
        result += _plain(text[position : match.start()]) + _formula(match[1])
        position = match.end()
    return result + _plain(text[position:])


def _plain(text: str) -> Markup:
    return escape(text.replace(r"\$", "$"))


def _formula(latex: str) -> Markup:
    try:
        root = ElementTree.fromstring(convert(latex))
        _refuse_strangers(root)
    except Exception as error:  # the converter raises whatever it stumbles on
        return Markup('<code class="latex" title="not rendered: {}">{}</code>').format(
            type(error).__name__, latex
        )
    # HTML needs no namespace; the LaTeX stays with the formula for those who copy or listen.
    for element in root.iter():
        element.tag = element.tag.removeprefix(NAMESPACE)
    root.set("alttext", latex)
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _refuse_strangers(root: ElementTree.Element) -> None:
    for element in root.iter():
        tag = element.tag.removeprefix(NAMESPACE)
        attributes = {name.lower() for name in element.attrib}
        if tag not in ELEMENTS or any(name.startswith("on") for name in attributes):
            raise ValueError(f"<{tag}> is not mathematics")
        if attributes & FORBIDDEN_ATTRIBUTES:
            raise ValueError(f"<{tag}> has attributes that are not mathematics")
