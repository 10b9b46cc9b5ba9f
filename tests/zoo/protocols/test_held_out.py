"""People who are in no pre-training and in no choice."""

import numpy as np
import pytest

from omfa.pipeline import DataError
from omfa.zoo import Protocol, split
from omfa.zoo.pretraining.module import open_reads
from omfa.zoo.pretraining.settings import Settings
from omfa.zoo.protocols.held_out import HELD_OUT, held_out_names, left_out


def test_the_people_held_out_are_those_that_were_written_down():
    assert {name: (who[0], who[-1], len(who)) for name, who in HELD_OUT.items()} == {
        "eegmmidb": ("sub-037", "sub-060", 24),
        "ssvep": ("sub-09", "sub-12", 4),
        "eegmat": ("sub-19", "sub-35", 17),
    }
    assert len(held_out_names()) == 45
    assert held_out_names(["ssvep/sub-09", "ssvep/sub-01"]) == ["ssvep/sub-09"]


def test_patterns_and_the_benchmarks_name_leave_people_out():
    known = ["ssvep/sub-01", "ssvep/sub-09", "ssvep/sub-10", "other/sub-09"]
    assert left_out(known, ["benchmark"], doing="Trying") == {"ssvep/sub-09", "ssvep/sub-10"}
    both = left_out(known, ["benchmark", "other/*"], doing="Trying")
    assert both == {"ssvep/sub-09", "ssvep/sub-10", "other/sub-09"}
    with pytest.raises(DataError, match=r"'benchmark'; there are other/sub-09\. Ingest these"):
        left_out(["other/sub-09"], ["benchmark"], doing="Trying")
    # A store that was made without them, as those that travel: there is nobody to leave out.
    assert left_out(["ssvep/sub-01", "other/sub-09"], ["benchmark"], doing="Trying") == set()
    with pytest.raises(DataError, match="nobody is called 'a/sub-1'"):
        left_out(known, ["a/sub-1"], doing="Trying")


def test_a_pretraining_without_the_benchmark_reads_exactly_the_others(lay_store, tmp_path):
    trial = {"trials": [(0, 1300)], "subjects": 12}
    store = lay_store(tmp_path / "a.zarr", source="ssvep", **trial)
    settings = Settings(window_seconds=2.0, lag_seconds=(1.0, 2.0))
    data = open_reads([str(store)], settings, hold_out=["benchmark"], cache="stream")
    assert set(data.metadata["subject"]) == {f"sub-{k:02d}" for k in range(1, 9)}


def test_one_fold_tests_those_named_and_none_of_them_learns(make_table):
    table = make_table(subjects=6)
    protocol = Protocol("cross-subject", n_folds=1, tested=("set0/sub-04", "set0/sub-05"))
    [fold] = split(table, table["target"], protocol)
    who = table["subject"].to_numpy()
    assert set(who[fold.test]) == {"sub-04", "sub-05"}
    learning = set(who[fold.train]) | set(who[fold.validation])
    assert learning == {f"sub-{k:02d}" for k in range(4)}
    assert len(np.unique(np.concatenate([fold.train, fold.validation, fold.test]))) == len(table)
    assert "trained on those who are not tested" in protocol.label
    with pytest.raises(DataError, match="two folds or more"):
        Protocol("cross-subject", n_folds=1)
