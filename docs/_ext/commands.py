"""The directive ``commands``: the pages of a command line, made of its parsers at build time."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive

from omfa.pipeline import cli as ingest
from omfa.zoo.cli import main as zoo


def _verbs(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _of_ingest() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for source in ingest.OWN_SOURCES:
        yield source, ingest.parser_for([source])
    yield from _verbs(ingest.parser_for(["simulate"])).items()


def _of_zoo() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for verb in zoo.COMMANDS:
        yield verb, _verbs(zoo.parser_for([verb]))[verb]


LONGEST_USAGE = 160
"""Characters of a usage that is shown whole; flags have their list below."""

PROGRAMS = {"omfa-ingest": _of_ingest, "omfa-zoo": _of_zoo}


def _paragraphs(text: str | None) -> list[nodes.Node]:
    """Return a help text as it stands; lines that are indented are code."""
    shown: list[nodes.Node] = []
    for block in filter(None, (text or "").split("\n\n")):
        if any(line.startswith("  ") for line in block.splitlines()):
            shown.append(nodes.literal_block(block, block, language="none"))
        else:
            shown.append(nodes.paragraph(block, block.strip()))
    return shown


def _names(action: argparse.Action) -> str:
    """Return how an argument is written: ``--folds N``, ``STORE [STORE ...]``."""
    form = argparse.HelpFormatter("")
    if not action.option_strings:
        return form._format_args(action, str(action.metavar or action.dest))
    words = ", ".join(action.option_strings)
    if action.nargs == 0:
        return words
    shown = form._format_args(action, form._get_default_metavar_for_optional(action))
    return f"{words} {shown}"


def _arguments(parser: argparse.ArgumentParser, known: set[str]) -> list[nodes.Node]:
    shown: list[nodes.Node] = []
    form = parser._get_formatter()
    for group in parser._action_groups:
        rows = nodes.definition_list(classes=["arguments"])
        for action in group._group_actions:
            hidden = action.help is argparse.SUPPRESS or "--help" in action.option_strings
            names = _names(action) if not hidden else ""
            if hidden or names in known or isinstance(action, argparse._SubParsersAction):
                continue
            text = form._expand_help(action) if action.help else ""
            term = nodes.term("", "", nodes.literal(names, names))
            rows += nodes.definition_list_item(
                "", term, nodes.definition("", nodes.paragraph(text, text))
            )
        if len(rows):
            shown.append(nodes.rubric("", str(group.title).capitalize()))
            shown.append(rows)
    return shown


def _names_of(parser: argparse.ArgumentParser) -> set[str]:
    return {
        _names(action)
        for action in parser._actions
        if action.help is not argparse.SUPPRESS and "--help" not in action.option_strings
    }


def _section(title: str, text: str) -> nodes.section:
    made = nodes.section(ids=[nodes.make_id(title)], names=[nodes.fully_normalize_name(title)])
    made += nodes.title(title, title)
    made += _paragraphs(text)
    return made


class Commands(Directive):
    """Sections for the commands of a program: what each is for, and all its flags."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Make them."""
        program = self.arguments[0]
        parsers = dict(PROGRAMS[program]())
        shared: set[str] = set()
        sections: list[nodes.Node] = []
        if program == "omfa-ingest":
            of_sources = [_names_of(parsers[name]) for name in ingest.OWN_SOURCES]
            shared = set.intersection(*of_sources)
            section = _section(
                f"{program} SOURCE", "What every source takes; below, what each has besides."
            )
            section += _arguments(parsers["files"], _names_of(parsers["files"]) - shared)
            sections.append(section)
        for name, parser in parsers.items():
            section = _section(f"{program} {name}", parser.description or "")
            usage = " ".join(parser.format_usage().split()).removeprefix("usage: ")
            if len(usage) > LONGEST_USAGE:
                places = [a for a in parser._actions if not a.option_strings]
                usage = " ".join([parser.prog, *map(_names, places), "[options]"])
            section += nodes.literal_block(usage, usage, language="none")
            section += _arguments(parser, shared if name in ingest.OWN_SOURCES else set())
            section += _paragraphs(parser.epilog)
            sections.append(section)
        return sections


def setup(app: Any) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
