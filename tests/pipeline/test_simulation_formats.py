"""The simulator's byte writers, against readers that were written by others."""

from __future__ import annotations

import pickle
import pickletools

import mne
import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from omfa.pipeline.simulation.formats import (
    BDF_RANGE,
    BDF_STEP,
    CNT_STEP,
    BdfChannel,
    mat_cell,
    mat_doubles,
    mat_numbers,
    mat_struct,
    mat_text,
    write_bdf,
    write_cnt,
    write_mat,
    write_python2_pickle,
)


def test_mat_matrices_text_cells_and_structs_read_back(tmp_path):
    signal = np.random.default_rng(0).standard_normal((62, 501))
    inside = {
        "Name": mat_text("calm"),
        "Cells": mat_cell([mat_doubles(signal.shape, lambda: signal), mat_numbers(256)], (2, 1)),
        "Score": mat_numbers([[3], [5]], uint8=True),
    }
    file = tmp_path / "a.mat"
    write_mat(file, [mat_doubles(signal.shape, lambda: signal, "x_eeg1"), mat_struct(inside, "S")])

    read = scipy.io.loadmat(file)
    np.testing.assert_array_equal(read["x_eeg1"], signal)
    assert read["x_eeg1"].dtype == np.float64
    struct = read["S"][0, 0]
    assert struct.dtype.names == ("Name", "Cells", "Score")
    assert struct["Name"][0] == "calm"
    np.testing.assert_array_equal(struct["Cells"][0, 0], signal)
    assert struct["Cells"][1, 0] == 256
    assert struct["Score"].dtype == np.uint8
    assert struct["Score"].tolist() == [[3], [5]]
    assert b"no person recorded" in read["__header__"]


def test_mat_variables_are_compressed_one_by_one(tmp_path):
    file = tmp_path / "a.mat"
    write_mat(file, [mat_numbers([1], "a"), mat_numbers([2], "b")])
    content = file.read_bytes()
    offset, kinds = 128, []
    while offset < len(content):
        kind, length = np.frombuffer(content, "<u4", 2, offset)
        kinds.append(int(kind))
        offset += 8 + int(length)
    assert kinds == [15, 15]
    assert offset == len(content)


@settings(max_examples=40)
@given(
    arrays(
        np.int64,
        array_shapes(min_dims=2, max_dims=2, max_side=7),
        elements=st.integers(-(2**31), 2**31 - 1),
    )
)
def test_mat_whole_numbers_of_any_width_read_back(tmp_path_factory, values):
    file = tmp_path_factory.mktemp("mat") / "a.mat"
    write_mat(file, [mat_numbers(values, "n")])
    np.testing.assert_array_equal(scipy.io.loadmat(file)["n"], values)


@pytest.fixture
def dat(tmp_path):
    draw = np.random.default_rng(1)
    data, labels = draw.standard_normal((3, 4, 300)), draw.uniform(1, 9, (3, 4))
    file = tmp_path / "s01.dat"
    write_python2_pickle(
        file, {"labels": (labels.shape, [labels]), "data": (data.shape, iter(data))}
    )
    return file.read_bytes(), data, labels


def test_pickle_reads_as_latin1_and_only_so(dat):
    content, data, labels = dat
    read = pickle.loads(content, encoding="latin1")
    np.testing.assert_array_equal(read["data"], data)
    np.testing.assert_array_equal(read["labels"], labels)
    assert list(read) == ["labels", "data"]
    assert set(pickle.loads(content, encoding="bytes")) == {b"labels", b"data"}
    with pytest.raises(UnicodeDecodeError):
        pickle.loads(content)


def test_pickle_has_the_opcodes_of_python_2(dat):
    opcodes = [(opcode.name, argument) for opcode, argument, _ in pickletools.genops(dat[0])]
    names = {name for name, _ in opcodes}
    assert {"SHORT_BINSTRING", "BINSTRING", "GLOBAL", "BINPUT", "BINGET"} <= names
    assert not any("UNICODE" in name or "BYTES" in name for name in names)
    assert opcodes[0] == ("PROTO", 2)
    assert [argument for name, argument in opcodes if name == "GLOBAL"] == [
        "numpy.core.multiarray _reconstruct",
        "numpy ndarray",
        "numpy dtype",
    ]


def test_bdf_digits_read_back_exactly(tmp_path):
    digits = np.random.default_rng(2).integers(-(2**23), 2**23, (3, 4 * 64), dtype=np.int32)
    file = tmp_path / "a.bdf"
    channels = [BdfChannel("Fz"), BdfChannel("Cz"), BdfChannel("Pz")]
    write_bdf(file, channels, [digits[:, :64], digits[:, 64:]], n_records=4, sfreq=64)
    raw = mne.io.read_raw_bdf(file, verbose="error")
    assert raw.ch_names == ["Fz", "Cz", "Pz"]
    assert raw.info["sfreq"] == 64
    read = (raw.get_data() * 1e6 - BDF_RANGE[0]) / BDF_STEP - 2**23
    np.testing.assert_allclose(read, digits, atol=1e-3)


def test_cnt_digits_and_events_read_back_exactly(tmp_path):
    digits = np.random.default_rng(3).integers(-(2**30), 2**30, (3, 5000), dtype=np.int32)
    file = tmp_path / "a.cnt"
    places = {"FP1": (-0.03, 0.08), "CZ": (0.0, 0.0), "O2": (0.03, -0.08)}
    events = [(100, 1), (4999, 2)]
    write_cnt(file, places, [digits[:, :77], digits[:, 77:]], sfreq=1000, events=events)
    raw = mne.io.read_raw_cnt(file, data_format="int32", verbose="error")
    assert raw.ch_names == list(places)
    read = raw.get_data() * 1e6 / CNT_STEP
    np.testing.assert_allclose(read, digits, rtol=1e-6)
    # MNE counts an event's samples from 1.
    np.testing.assert_allclose(raw.annotations.onset, [0.099, 4.998], atol=1e-9)
    assert raw.annotations.description.tolist() == ["1", "2"]
    auto = mne.io.read_raw_cnt(file, verbose="error")
    np.testing.assert_array_equal(auto.get_data(), raw.get_data())


def test_a_file_has_its_name_only_when_whole(tmp_path):
    def breaks():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_mat(tmp_path / "a.mat", [mat_doubles((1, 1), breaks, "x")])
    assert list(tmp_path.iterdir()) == []
