"""The list of corpora: every command is one that omfa understands, and the page has them all."""

import re
import shlex
from pathlib import Path

import pytest

from omfa.pipeline.catalogue import CORPORA, markdown
from omfa.pipeline.cli import OWN_SOURCES, _parse, main
from omfa.pipeline.readers import READERS, UNNAMED

PAGE = Path(__file__).parents[2] / "docs" / "corpora.md"


@pytest.mark.parametrize("corpus", CORPORA, ids=lambda corpus: corpus.name)
def test_every_command_is_understood(corpus):
    assert corpus.commands
    for command in corpus.commands:
        program, source, *rest = shlex.split(command)
        assert program == "omfa-ingest"
        args = _parse([source, *rest])
        assert args.raw == "RAW"
        assert args.store == f"{corpus.name}.zarr"
        assert source in OWN_SOURCES


def test_every_reader_of_a_corpus_is_in_the_list():
    assert set(READERS) - set(UNNAMED) <= {corpus.name for corpus in CORPORA}


def test_the_page_has_what_the_command_prints(capsys):
    assert main(["corpora", "--markdown"]) == 0
    printed = capsys.readouterr().out
    assert printed == markdown()
    assert printed in PAGE.read_text()
    for command in re.findall(r"```bash\n(.*?)```", printed, re.S):
        assert command.startswith("omfa-ingest ")


def test_open_ones_are_those_without_a_form(capsys):
    assert main(["corpora", "--open"]) == 0
    lines = capsys.readouterr().out.splitlines()
    shown = {line.split()[0] for line in lines[1:] if line and "omfa-ingest" not in line}
    assert shown == {corpus.name for corpus in CORPORA if not corpus.form}


def test_one_corpus_is_told_with_its_command(capsys):
    assert main(["corpora", "ds003751"]) == 0
    told = capsys.readouterr().out
    assert "--montage GSN-HydroCel-128" in told
    assert "https://openneuro.org/datasets/ds003751" in told
    assert main(["corpora", "seedv"]) == 2
    assert "nearest: seed-v" in capsys.readouterr().err
