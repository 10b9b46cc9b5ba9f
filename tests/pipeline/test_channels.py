"""The Unified Channel Schema: names, ids, positions, alignment, and what it refuses."""

import hashlib
import pickle
from dataclasses import dataclass

import mne
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omfa.pipeline.channels import MAX_DISPLACEMENT, UCS, UCS_VERSION, ChannelSchema
from omfa.pipeline.errors import DataError

# fmt: off
SEED = [
    "Fp1", "Fpz", "Fp2", "AF3", "AF4", "F7", "F5", "F3", "F1", "Fz", "F2", "F4", "F6", "F8",
    "FT7", "FC5", "FC3", "FC1", "FCz", "FC2", "FC4", "FC6", "FT8", "T7", "C5", "C3", "C1",
    "Cz", "C2", "C4", "C6", "T8", "TP7", "CP5", "CP3", "CP1", "CPz", "CP2", "CP4", "CP6",
    "TP8", "P7", "P5", "P3", "P1", "Pz", "P2", "P4", "P6", "P8", "PO7", "PO5", "PO3", "POz",
    "PO4", "PO6", "PO8", "CB1", "O1", "Oz", "O2", "CB2",
]
DEAP = [
    "Fp1", "AF3", "F3", "F7", "FC5", "FC1", "C3", "T7", "CP5", "CP1", "P3", "P7", "PO3", "O1",
    "Oz", "Pz", "Fp2", "AF4", "Fz", "F4", "F8", "FC6", "FC2", "Cz", "C4", "T8", "CP6", "CP2",
    "P4", "P8", "PO4", "O2",
]
DREAMER = [
    "AF3", "F7", "F3", "FC5", "T7", "P7", "O1", "O2", "P8", "T8", "FC6", "F4", "F8", "AF4",
]
# fmt: on
OLD_NAMES = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}

names = st.sampled_from(UCS.names)
montages = st.lists(names, unique=True, min_size=1, max_size=80)


@st.composite
def spellings(draw, name):
    """A way in which some recorder writes the name of an electrode."""
    old = [raw for raw, new in OLD_NAMES.items() if new == name]
    text = draw(st.sampled_from([name, *old]))
    text = draw(st.sampled_from([str, str.upper, str.lower, str.swapcase]))(text)
    text += draw(
        st.sampled_from(["", ".", "..", " ", "-Ref", "-REF", " REF", "-LE", "-AVG", "_AR"])
    )
    return draw(st.sampled_from(["", "EEG ", "eeg_", "EEG-", " ", "EEG: "])) + text


@dataclass
class Store:
    """As much of a store as the union and the intersection look at."""

    channels: list
    common_channels: list
    ucs: ChannelSchema = UCS


# --------------------------------------------------------------------------- names and ids


def test_the_first_ids_are_seeds_62_in_seeds_order():
    assert list(UCS.names[:62]) == SEED
    assert UCS.ids(SEED).tolist() == list(range(62))


def test_deap_and_dreamer_have_the_ids_that_their_documentation_gives():
    assert UCS.ids(DEAP).tolist() == [
        0, 3, 7, 5, 15, 17, 25, 23, 33, 35, 43, 41, 52, 58, 59, 45,
        2, 4, 9, 11, 13, 21, 19, 27, 29, 31, 39, 37, 47, 49, 54, 60,
    ]  # fmt: skip
    assert UCS.ids(DREAMER).tolist() == [3, 5, 7, 15, 23, 41, 58, 60, 49, 31, 21, 11, 13, 4]


def test_ids_of_version_1_stay_when_names_are_appended():
    """343 names came with version 1; a store written then holds their ids."""
    version_1 = "\n".join(UCS.names[:343])
    assert (
        hashlib.sha256(version_1.encode()).hexdigest()
        == "728f279c924a86f2ed2d9b2b7bf455874a529be61a1dc4cc2c03efbf84dd54c7"
    )
    assert (UCS_VERSION == "1") == (len(UCS.names) == 343)


def test_no_two_names_are_one_in_another_case():
    assert len({name.upper() for name in UCS.names}) == len(UCS.names)


@given(st.data(), names)
def test_any_spelling_has_one_meaning(data, name):
    raw = data.draw(spellings(name))
    assert raw in UCS
    assert UCS.name(raw) == name
    assert UCS.name(UCS.name(raw)) == name


@given(st.data(), montages)
def test_canonical_names_keep_the_recordings_order(data, montage):
    raw = [data.draw(spellings(name)) for name in montage]
    assert UCS.canonicalize(raw) == montage


@pytest.mark.parametrize(
    ("raw", "name"),
    [("FP1", "Fp1"), ("Fc5.", "FC5"), ("Af7.", "AF7"), ("EEG T3-Ref", "T7"), ("EEG F3-LE", "F3"),
     (" POZ ", "POz"), ("cb2", "CB2"), ("T10.", "T10"), ("Iz..", "Iz"), ("EEG A1-REF", "A1")],
)  # fmt: skip
def test_names_as_real_files_spell_them(raw, name):
    assert UCS.name(raw) == name


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(DataError, match=r"'Fp11'.*nearest: .*Fp1.*--alias RAW=NAME") as error:
        UCS.name("Fp11", where="files reader: a.edf")
    assert error.value.args[0] == "files reader: a.edf"
    assert "Fp11" not in UCS


@given(st.text(max_size=8))
def test_any_text_is_a_name_or_a_clear_error(text):
    if text in UCS:
        assert UCS.name(text) in UCS.names
    else:
        with pytest.raises(DataError, match="not in the channel schema"):
            UCS.name(text)


@given(st.data(), montages)
def test_two_spellings_of_one_electrode_are_refused(data, montage):
    again = data.draw(spellings(data.draw(st.sampled_from(montage))))
    with pytest.raises(DataError, match=r"are both \w+.*--exclude"):
        UCS.canonicalize([*montage, again])


def test_a_biosemi_abc_cap_is_refused():
    """Its A1, B1 ... C3 are places on the cap, some of which look like 10-05 names."""
    caps = [f"{letter}{i}" for letter in "ABCD" for i in range(1, 33)]
    for cap in (caps, caps[:32], ["A1", "A2", "A3"], ["EEG A1", "EEG A17"]):
        with pytest.raises(DataError, match="BioSemi ABC"):
            UCS.canonicalize(cap)
    assert UCS.canonicalize(["A1", "A2", "C3", "F8"]) == ["A1", "A2", "C3", "F8"]


# --------------------------------------------------------------------------- positions


def montage_of_mne(*names_of_it):
    for name in names_of_it:
        try:
            montage = mne.channels.make_standard_montage(name)
            break
        except ValueError:  # the new names came with MNE 1.13
            continue
    info = mne.create_info(montage.ch_names, 100.0, "eeg").set_montage(montage)
    return {ch["ch_name"]: ch["loc"][:3] for ch in info["chs"]}


def test_positions_are_those_of_mnes_template_in_the_head_frame():
    template = montage_of_mne("colin27_1005", "standard_1005")
    known = [name for name in UCS.names if name in template]
    expected = np.array([template[name] for name in known])
    np.testing.assert_allclose(UCS.positions(known), expected, atol=1e-5)
    assert set(UCS.names) - set(known) == {"CB1", "CB2", "O9", "O10"}
    older = montage_of_mne("colin27_1020", "standard_1020")
    np.testing.assert_allclose(UCS.positions(["O9", "O10"]), [older["O9"], older["O10"]], atol=1e-5)


def test_the_cerebellar_electrodes_take_the_positions_that_the_rule_names():
    other = UCS.with_options(cerebellar="POO7/POO8")
    np.testing.assert_array_equal(UCS.positions(["CB1", "CB2"]), UCS.positions(["PO9", "PO10"]))
    np.testing.assert_array_equal(other.positions(["CB1", "CB2"]), UCS.positions(["POO7", "POO8"]))
    assert UCS.name("CB1") == other.name("CB1") == "CB1"  # the rule moves no name
    assert UCS.canonicalize(["CB1", "PO9"]) == ["CB1", "PO9"]


@pytest.mark.parametrize(
    "template", ["biosemi64", "easycap-M1", "spherical_1005", "fsaverage_1005"]
)
def test_another_template_of_the_same_names_is_believed(template):
    try:
        positions = montage_of_mne(template)
    except UnboundLocalError:
        pytest.skip("this MNE has no such montage")
    known = [name for name in positions if name in UCS]
    measured = np.array([positions[name] for name in known])
    UCS.check_positions(UCS.canonicalize(known), measured, where="")


@given(st.permutations(DEAP), st.floats(0.75, 1.2), st.integers(0, 2**32 - 1))
def test_heads_of_another_size_are_believed_and_a_swapped_name_is_not(montage, size, seed):
    rng = np.random.default_rng(seed)
    measured = (
        size * UCS.positions(montage) + rng.normal(0, 0.004, (32, 3)) + rng.normal(0, 0.02, 3)
    )
    UCS.check_positions(montage, measured, where="")
    front, back = montage.index("Fp1"), montage.index("O2")
    measured[[front, back]] = measured[[back, front]]
    with pytest.raises(DataError, match=r"channel (Fp1|O2) was measured \d+ cm"):
        UCS.check_positions(montage, measured, where="")


def test_a_few_measured_electrodes_are_compared_as_they_are():
    measured = UCS.positions(["Cz", "Pz"])
    UCS.check_positions(["Cz", "Pz"], measured + np.array([0, 0.9 * MAX_DISPLACEMENT, 0]), where="")
    with pytest.raises(DataError, match="channel Cz was measured 5 cm"):
        UCS.check_positions(["Cz", "Pz"], measured + np.array([[0, 0.05, 0], [0, 0, 0]]), where="")


def test_electrodes_that_were_not_measured_are_not_compared():
    for nothing in (np.nan, 0.0):
        UCS.check_positions(DEAP, np.full((32, 3), nothing), where="")


# --------------------------------------------------------------------------- aligning


@given(st.data(), montages, montages)
def test_aligning_puts_rows_by_name_and_marks_the_absent(data, have, want):
    signal = np.arange(len(have) * 3, dtype=np.float32).reshape(-1, 3) + 1
    raw = [data.draw(spellings(name)) for name in have]
    aligned, present = UCS.align(signal, raw, want)
    assert aligned.shape == (len(want), 3)
    assert aligned.dtype == signal.dtype
    assert present.tolist() == [name in have for name in want]
    assert not aligned[~present].any()
    for i in np.flatnonzero(present):
        np.testing.assert_array_equal(aligned[i], signal[have.index(want[i])])


@given(st.data(), montages)
def test_aligning_there_and_back_loses_nothing(data, montage):
    signal = np.random.default_rng(0).normal(size=(len(montage), 2))
    wider = data.draw(st.permutations([*montage, *(n for n in SEED if n not in montage)]))
    there, present = UCS.align(signal, montage, wider)
    assert present.sum() == len(montage)
    back, present = UCS.align(there, wider, montage)
    assert present.all()
    np.testing.assert_array_equal(back, signal)


@given(st.data(), montages)
def test_aligning_does_not_depend_on_the_recordings_order(data, montage):
    order = data.draw(st.permutations(range(len(montage))))
    signal = np.random.default_rng(0).normal(size=(len(montage), 2))
    once, _ = UCS.align(signal, montage, SEED)
    again, _ = UCS.align(signal[order], [montage[i] for i in order], SEED)
    np.testing.assert_array_equal(once, again)


def test_aligning_refuses_rows_without_a_name():
    with pytest.raises(DataError, match="3 rows and 2 channel names"):
        UCS.align(np.zeros((3, 5)), ["Cz", "Pz"], SEED)


@given(montages)
def test_ids_sort_any_montage_into_the_order_of_the_schema(montage):
    ordered = UCS.in_order(montage * 2)
    assert UCS.ids(ordered).tolist() == sorted(UCS.ids(montage).tolist())
    assert [UCS.names[i] for i in UCS.ids(montage)] == montage


# --------------------------------------------------------------------------- aliases


def test_an_alias_of_the_users_own_gives_a_name_its_meaning():
    schema = UCS.with_options(aliases={"EEG 001": "Fz", "Fpz-Cz": "Fpz", "A3": "P7"})
    assert schema.canonicalize(["EEG 001", "EEG Fpz-Cz", "A3"]) == ["Fz", "Fpz", "P7"]
    assert "EEG 001" not in UCS
    assert pickle.loads(pickle.dumps(schema)) == schema
    assert schema != UCS


@pytest.mark.parametrize(
    ("aliases", "match"),
    [({"E1": "Fp11"}, "'Fp11' is not in the channel schema"),
     ({"E1": "FP1"}, "'FP1' is not in the channel schema.*nearest: .*Fp1"),
     ({"Cz": "Pz"}, "already has that name for 'Cz'"),
     ({"t3.": "C3"}, "already has that name for 'T7'")],
)  # fmt: skip
def test_an_alias_cannot_change_what_a_name_means(aliases, match):
    with pytest.raises(DataError, match=match):
        UCS.with_options(aliases=aliases)


# --------------------------------------------------------------------------- stores together


@given(st.lists(montages, min_size=1, max_size=4))
def test_union_and_intersection_of_stores(channels):
    stores = [Store(UCS.in_order(names), UCS.in_order(names)) for names in channels]
    union, common = UCS.union(stores), UCS.intersection(stores)
    assert set(union) == set().union(*channels)
    assert set(common) == set(channels[0]).intersection(*channels)
    for found in (union, common):
        assert (np.diff(UCS.ids(found)) > 0).all()


def test_union_and_intersection_of_the_three_corpora():
    stores = [Store(names, names) for names in (SEED, DEAP, DREAMER)]
    assert UCS.union(stores) == SEED
    assert UCS.intersection(stores) == UCS.in_order(DREAMER)
    assert UCS.union([]) == UCS.intersection([]) == []


def test_a_channel_that_some_recording_lacks_is_in_the_union_alone():
    stores = [Store(["Fz", "Cz", "Pz"], ["Cz"]), Store(["Cz", "Pz"], ["Cz", "Pz"])]
    assert UCS.union(stores) == ["Fz", "Cz", "Pz"]
    assert UCS.intersection(stores) == ["Cz"]


@pytest.mark.parametrize("join", [UCS.union, UCS.intersection])
@pytest.mark.parametrize(
    ("a", "b", "what"),
    [
        (UCS, ChannelSchema(UCS.names, UCS.template, version="2"), "versions (1 and 2|2 and 1)"),
        (
            UCS,
            UCS.with_options(cerebellar="POO7/POO8"),
            "positions (PO9/PO10 and POO7/POO8|POO7/POO8 and PO9/PO10) for CB1 and CB2",
        ),
        (
            UCS.with_options(aliases={"EEG X1": "Fz"}),
            UCS.with_options(aliases={"x1.": "Cz"}),
            "meanings for (EEG X1|x1)",
        ),
    ],
)
def test_stores_that_mean_different_things_by_a_name_never_join(join, a, b, what):
    first, second = Store(SEED, SEED, a), Store(SEED, SEED, b)
    plain = Store(DREAMER, DREAMER)
    for stores in ([first, second], [second, first], [plain, first, second]):
        with pytest.raises(DataError, match=f"different (channel schema )?{what}"):
            join(stores)
    assert join([first, first])


def test_the_cerebellar_rule_matters_only_where_both_hold_such_electrodes():
    other = UCS.with_options(cerebellar="POO7/POO8")
    assert UCS.union([Store(SEED, SEED), Store(DEAP, DEAP, other)]) == SEED
