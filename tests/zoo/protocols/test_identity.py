"""Recordings are known by what they hold, not by what they are called."""

import pytest

from omfa.pipeline import DataError
from omfa.zoo import check_fold, split
from omfa.zoo.protocols.identity import Recorded, doubles, same, source_digest
from omfa.zoo.protocols.protocol import Protocol


def recorded(text):
    return [Recorded.of_text(line) for line in text.splitlines()]


@pytest.mark.parametrize(
    ("here", "there", "pairs"),
    [
        ("a/sub-1_x s1 f1", "b/sub-9_y s1 f2", 1),  # stored alike, from other files
        ("a/sub-1_x s1 f1", "b/sub-9_y s2 f1", 1),  # one file, another recipe
        ("a/sub-1_x s1 f1", "a/sub-1_x s2 f2", 0),  # two people of one name
        ("a/sub-1_x - -", "b/sub-1_x - -", 0),  # what is not known is equal to nothing
        ("a/sub-1_x s1 f1\na/sub-2_x s2 f1", "b/sub-2_x s3 f1", 1),  # a file of many recordings
        (
            "b/sub-2_x s3 f1",
            "a/sub-1_x s1 f1\na/sub-3_x s2 f1",
            0,
        ),  # others of its people
    ],
)
def test_recordings_are_the_same_by_their_signal_or_their_file(here, there, pairs):
    assert len(same(recorded(here), recorded(there))) == pairs


def test_a_recording_is_written_in_a_line_and_read_back():
    one = Recorded("deap", "sub-01_ses-1_run-1", "ab", "cd")
    assert Recorded.of_text(str(one)) == Recorded.of_line("deap", one.line()) == one
    assert (one.person, one.name) == ("deap/sub-01", "deap/sub-01_ses-1_run-1")


@pytest.mark.parametrize(
    ("files", "digest"),
    [
        ([("a.vhdr", 100, "1"), ("a.eeg", 9000, "2"), ("people.tsv", 99_999, "3")], "2"),
        ([("labels.csv", 10, "1")], "1"),  # a reader of tables
        ([], "-"),
    ],
)
def test_the_digest_of_the_source_is_that_of_the_file_with_the_signal(files, digest):
    listed = [{"name": name, "size": size, "sha256": 64 * sha} for name, size, sha in files]
    assert source_digest(listed) == (16 * digest if files else digest)


def test_sides_of_a_fold_share_no_recording_under_two_names(make_table):
    metadata = make_table(datasets=2, subjects=4)
    names = {(d, s, e) for d, s, e in metadata[["dataset", "subject", "session"]].to_numpy()}
    apart = [Recorded(d, f"{s}_{e}_run-1", f"{d}{s}{e}") for d, s, e in sorted(names)]
    # set1's recordings are set0's.
    twice = [Recorded(one.dataset, one.recording, one.recording) for one in apart]
    assert len(doubles(twice)) == len(apart) / 2
    protocol = Protocol("cross-dataset")
    (fold, _) = split(metadata, metadata["target"].to_numpy(), protocol)
    check_fold(metadata, fold, protocol, apart)
    with pytest.raises(DataError, match=r"recordings are on both sides under two names.*set1/sub-"):
        check_fold(metadata, fold, protocol, twice)
