"""XML from outside: no entities of its own making, and nothing where it is no XML."""

from __future__ import annotations

from xml.etree import ElementTree


def root_of(text: str) -> ElementTree.Element | None:
    """The root of an XML text; None where it is none, or declares entities, which can stand for any number of bytes."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        return None
    try:
        return ElementTree.fromstring(text.lstrip())
    except (ElementTree.ParseError, ValueError):
        return None


def name_of(element: ElementTree.Element) -> str:
    """An element's name without its namespace, in lower case."""
    return str(element.tag).rpartition("}")[2].lower()
