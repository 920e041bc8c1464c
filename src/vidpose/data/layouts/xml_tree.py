"""XML as a tree whose elements know their lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from vidpose.errors import InputError


@dataclass
class Element:
    """One element."""

    tag: str
    attributes: dict[str, str]
    line: int
    children: list[Element] = field(default_factory=list)
    text: str = ""

    def find(self, *tags: str) -> Element | None:
        """The first child of a tag, of it the first of the next tag, …"""
        place: Element | None = self
        for tag in tags:
            place = next((child for child in place.children if child.tag == tag), None) if place else None
        return place

    def all(self, tag: str) -> Iterator[Element]:
        """The children of a tag."""
        return (child for child in self.children if child.tag == tag)

    def value(self, *tags: str) -> str:
        """The text of :meth:`find`, without space around it; empty where it is not there."""
        found = self.find(*tags)
        return found.text.strip() if found is not None else ""


def read_xml(file: Path) -> Element:
    """The root; an :class:`InputError` names the file and the line of what is wrong.

    Entities of its own, with which a small file can grow without end, are refused.
    """
    parser = expat.ParserCreate()
    top = Element("", {}, 0)
    stack = [top]

    def start(tag: str, attributes: dict[str, str]) -> None:
        element = Element(tag, attributes, parser.CurrentLineNumber)
        stack[-1].children.append(element)
        stack.append(element)

    def text(value: str) -> None:
        stack[-1].text += value

    def entity(*_: object) -> None:
        raise InputError(f"{file}:{parser.CurrentLineNumber}: defines an entity, which is not allowed")

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda tag: stack.pop()
    parser.CharacterDataHandler = text
    parser.EntityDeclHandler = entity
    try:
        with file.open("rb") as stream:
            parser.ParseFile(stream)
    except expat.ExpatError as error:
        what = expat.errors.messages[error.code]
        raise InputError(f"{file}:{error.lineno}: is not valid XML: {what}") from None
    except LookupError as error:
        raise InputError(f"{file}:1: {error}") from None  # unknown encoding: …
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror or error}") from error
    return top.children[0]
