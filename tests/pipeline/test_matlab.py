import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from omfa.pipeline import DataError, matlab
from omfa.pipeline.simulation.formats import mat_cell, mat_numbers, mat_struct, mat_text, write_mat

NUMBERS = ["f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"]


def save(path, values, *, compressed=True):
    scipy.io.savemat(path, values, do_compression=compressed)
    return path


def load(path, **how):
    return {v.name: v.array(**how) for v in matlab.variables(path)}


def element(kind, data, order="<"):
    return struct.pack(f"{order}II", kind, len(data)) + data + bytes(-len(data) % 8)


def matrix(name, values, order="<", stored=9, dtype="f8"):
    """Write a two-dimensional double array by hand, stored as the type given."""
    data = np.asarray(values).astype(order + dtype).tobytes(order="F")
    return element(
        14,
        element(6, struct.pack(f"{order}II", 6, 0), order)
        + element(5, struct.pack(f"{order}ii", *np.shape(values)), order)
        + element(1, name, order)
        + element(stored, data, order),
        order,
    )


def header(order="<"):
    version = struct.pack(f"{order}H", 0x0100)
    return b"MATLAB 5.0 MAT-file".ljust(124) + version + (b"IM" if order == "<" else b"MI")


def compressed(data):
    packed = zlib.compress(data)
    return struct.pack("<II", 15, len(packed)) + packed


@pytest.mark.parametrize("in_zlib", [True, False])
@pytest.mark.parametrize("dtype", NUMBERS)
def test_reads_what_scipy_writes(tmp_path, dtype, in_zlib):
    rng = np.random.default_rng(0)
    values = {
        "wide": rng.integers(0, 100, (3, 1000)).astype(dtype),
        "tall": rng.integers(0, 100, (70000, 2)).astype(dtype),
        "cube": rng.integers(0, 100, (3, 4, 5)).astype(dtype),
        "one": np.array([[7]], dtype),
        "none": np.empty((0, 4), dtype),
    }
    path = save(tmp_path / "a.mat", values, compressed=in_zlib)
    for how in ({}, {"dtype": np.float32}, {"dtype": np.float64, "order": "C"}):
        found = load(path, **how)
        assert list(found) == list(values)
        for name, value in values.items():
            np.testing.assert_array_equal(found[name], value)
            assert found[name].dtype == how.get("dtype", value.dtype)
    assert load(path, order="C")["wide"].flags.c_contiguous
    assert load(path)["wide"].flags.f_contiguous


@settings(max_examples=40)
@given(
    values=hnp.arrays(
        st.sampled_from(NUMBERS).map(np.dtype), hnp.array_shapes(min_dims=2, max_dims=4, max_side=9)
    ),
    in_zlib=st.booleans(),
    order=st.sampled_from("CF"),
)
def test_any_array_comes_back(tmp_path_factory, values, in_zlib, order):
    path = save(tmp_path_factory.mktemp("m") / "a.mat", {"x": values}, compressed=in_zlib)
    np.testing.assert_array_equal(load(path, order=order)["x"], values)


def test_nested_arrays_are_walked_in_order_and_what_is_left_out_is_skipped(tmp_path):
    cell = np.empty((2, 2), object)
    cell[:] = [[np.arange(5.0), "text"], [{"a": np.float64(1)}, np.empty((0, 0))]]
    path = save(tmp_path / "a.mat", {"s": {"first": "yes", "cell": cell, "last": np.uint8(9)}})
    (variable,) = list(matlab.variables(path))
    assert (variable.name, variable.kind) == ("s", "struct")
    for variable in matlab.variables(path):
        names = []
        for part in variable.fields():
            names.append(part.name)
            if part.name == "first":
                assert part.text() == "yes"
            if part.name == "cell":
                kinds = [(item.kind, item.shape) for item in part.cells()]
            if part.name == "last":
                assert part.array() == 9
    assert names == ["first", "cell", "last"]
    assert kinds == [
        ("numeric", (1, 5)), ("struct", (1, 1)), ("char", (1, 4)), ("numeric", (0, 0)),
    ]  # fmt: skip


def test_doubles_stored_as_small_integers_come_back_as_numbers(tmp_path):
    # MATLAB's own way of saving whole numbers, and the small elements it makes of them.
    write_mat(tmp_path / "a.mat", [mat_numbers([[1, 0, -1]], "label"), mat_numbers(300, "n")])
    found = load(tmp_path / "a.mat", dtype=np.float64)
    assert found["label"].tolist() == [[1, 0, -1]]
    assert found["n"].tolist() == [[300]]


def test_agrees_with_scipy_on_the_simulators_nesting(tmp_path):
    path = tmp_path / "a.mat"
    inner = mat_struct({"Age": mat_text("22"), "Score": mat_numbers([[1], [5]], uint8=True)})
    write_mat(path, [mat_struct({"Data": mat_cell([inner, inner], (1, 2))}, "D")])
    scores = [
        piece.array()
        for variable in matlab.variables(path)
        for part in variable.fields()
        for item in part.cells()
        for piece in item.fields()
        if piece.name == "Score"
    ]
    theirs = scipy.io.loadmat(path, simplify_cells=True)["D"]["Data"]
    assert [s.ravel().tolist() for s in scores] == [t["Score"].tolist() for t in theirs]


def test_both_byte_orders(tmp_path):
    values = np.arange(6.0).reshape(2, 3)
    for order in "<>":
        path = tmp_path / "a.mat"
        path.write_bytes(header(order) + matrix(b"x", values, order))
        np.testing.assert_array_equal(load(path, dtype=np.float32)["x"], values)


def test_bytes_after_the_variable_in_its_stream_are_passed_over(tmp_path):
    path = tmp_path / "a.mat"
    body = compressed(matrix(b"x", [[1.0, 2.0]]) + b"rest" * 99) + compressed(matrix(b"y", [[3.0]]))
    path.write_bytes(header() + body)
    assert {k: v.tolist() for k, v in load(path).items()} == {"x": [[1, 2]], "y": [[3]]}


def fails(path, match, **how):
    with pytest.raises(DataError, match=match) as caught:
        load(path, **how)
    assert len(caught.value.args) == 3
    assert str(path) in str(caught.value)


def test_hdf5_is_refused_with_what_to_do(tmp_path):
    path = tmp_path / "a.mat"
    for start in (b"\x89HDF\r\n\x1a\n", b"MATLAB 7.3 MAT-file, Platform: GLNXA64"):
        path.write_bytes(start.ljust(600))
        fails(path, "7.3 file, which is HDF5.*save -v7")


@pytest.mark.parametrize("content", [b"", b"<html>", bytes(200), b"MATLAB 5.0 MAT-file"])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "a.mat"
    path.write_bytes(content)
    fails(path, "not a MATLAB level 5 file")


@pytest.mark.parametrize("in_zlib", [True, False])
def test_every_truncation_is_an_error(tmp_path, in_zlib):
    path = save(tmp_path / "a.mat", {"x": np.random.default_rng(0).random((8, 9))})
    whole = path.read_bytes()
    for n in range(129, len(whole), 3):
        path.write_bytes(whole[:n])
        fails(path, "early|within an element|within its variable")


def test_the_checksum_is_verified_even_of_what_is_not_decoded(tmp_path):
    path = save(tmp_path / "a.mat", {"x": np.zeros((8, 9))})
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(DataError, match="damaged"):
        list(matlab.variables(path))


def test_complex_and_other_kinds_are_refused_by_array(tmp_path):
    fails(save(tmp_path / "a.mat", {"z": np.array([[1j, 2]])}), "not an array of real numbers")
    fails(save(tmp_path / "a.mat", {"t": "text"}), "not an array of real numbers")


def bomb(shape, nbytes, *, claimed):
    """Write an array whose header claims more than there is."""
    body = (
        element(6, struct.pack("<II", 6, 0))
        + element(5, struct.pack(f"<{len(shape)}i", *shape))
        + element(1, b"x")
        + struct.pack("<II", 9, claimed & 0xFFFFFFFF)
        + bytes(nbytes)
    )
    return struct.pack("<II", 14, max(len(body), claimed & 0xFFFFFFFF)) + body


@pytest.mark.parametrize(
    "content",
    [
        compressed(bomb((50000, 50000), 64, claimed=50000 * 50000 * 8)),
        compressed(bomb((2**31 - 1, 2**31 - 1), 64, claimed=64)),
        compressed(bomb((-4, 2), 64, claimed=64)),
        compressed(bomb((1,) * 40, 8, claimed=8)),
        bomb((50000, 10), 64, claimed=4_000_000),
        struct.pack("<II", 15, 2**32 - 1) + b"x",
        struct.pack("<II", 77, 8) + bytes(8),
    ],
)
def test_false_lengths_fail_without_taking_memory(tmp_path, content):
    path = tmp_path / "a.mat"
    path.write_bytes(header() + content)
    tracemalloc.start()
    try:
        fails(path, ".", dtype=np.float32)
        assert tracemalloc.get_traced_memory()[1] < 8e6
    finally:
        tracemalloc.stop()


def test_a_large_variable_that_is_skipped_takes_little_memory(tmp_path):
    path = save(tmp_path / "a.mat", {"x": np.zeros((1000, 8000)), "y": np.ones((1, 1))})
    tracemalloc.start()
    try:
        names = [v.name for v in matlab.variables(path)]
        assert tracemalloc.get_traced_memory()[1] < 4e6
    finally:
        tracemalloc.stop()
    assert names == ["x", "y"]


def test_each_goes_on_behind_what_is_damaged_or_refused(tmp_path):
    # So large that the end of a stream is read after the first values are.
    values = np.random.default_rng(0).standard_normal((2, 40_000))
    parts = [compressed(matrix(name, values)) for name in (b"a", b"b")]
    head, tail = bytearray(parts[1]), bytearray(parts[1])
    head[12] ^= 0xFF  # within the zlib stream's first block
    tail[-1] ^= 1  # its checksum
    text = compressed(element(14, b"nothing of an array"))
    file = tmp_path / "a.mat"
    file.write_bytes(header() + parts[0] + bytes(head) + bytes(tail) + text + parts[1])

    found = list(matlab.each(file, lambda variable: variable.array(), doing="x"))
    assert [name for name, _ in found] == ["a", "", "b", "", "b"]
    for place in (0, 4):
        np.testing.assert_array_equal(found[place][1], values)
    assert all(isinstance(found[i][1], DataError) for i in (1, 2, 3))

    def refuse(variable):
        raise DataError("Reading", f"{variable.name} is unwanted", "Leave it")

    told = [error.args[1] for _, error in matlab.each(file, refuse, doing="x")]
    assert (told[0], told[4]) == ("a is unwanted", "b is unwanted")


def test_what_is_cut_names_no_length_that_nobody_knows(tmp_path):
    parts = [matrix(name, np.ones((2, 300))) for name in (b"a", b"b")]
    file = tmp_path / "a.mat"
    file.write_bytes((header() + b"".join(parts))[: 128 + 1008])
    n_bytes = len(parts[0]) - 8
    fails(file, f"within its variable 1, of which 1,000 of {n_bytes:,} bytes are there")


def test_each_ends_where_nothing_can_be_found(tmp_path):
    parts = [compressed(matrix(name, np.ones((2, 300)))) for name in (b"a", b"b")]
    file = tmp_path / "a.mat"
    file.write_bytes((header() + b"".join(parts))[:-1])
    walk = matlab.each(file, lambda variable: variable.shape, doing="Looking")
    assert next(walk) == ("a", (2, 300))
    with pytest.raises(DataError, match=r"Looking: .*ends within its variable 2, of which"):
        next(walk)
