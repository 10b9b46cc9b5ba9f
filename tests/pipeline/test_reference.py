"""Recordings without a reference are named, unless they are given one."""

from types import SimpleNamespace

import pytest

from omfa.pipeline import Preprocessing, ingest

CMS = "as recorded (BioSemi CMS)"


@pytest.mark.parametrize(
    ("was", "asked", "named"),
    [
        (CMS, "source", True),
        (CMS, "average", False),
        (CMS, "Cz", False),
        ("average", "source", False),
        (None, "source", False),
    ],
)
def test_a_recording_against_cms_is_named(tree, reader, tmp_path, was, asked, named):
    def read(key):
        recording = reader.read(key)
        recording.source = {"reference": was}
        return recording

    like = SimpleNamespace(name="tiny", discover=reader.discover, read=read)
    how = Preprocessing(reference=asked)
    summary = ingest(like, tree, tmp_path / "s.zarr", preprocessing=how, subjects=[0], serial=True)
    (outcome,) = summary.outcomes
    assert [CMS in warning for warning in outcome.warnings] == [True] * named
    if named:
        assert "Ingest it with --reference average" in outcome.warnings[0]
