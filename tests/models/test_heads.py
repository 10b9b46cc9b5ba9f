"""The dense graph layers against torch_geometric's, and the heads as functions of a set."""

import numpy as np
import pytest
import torch

from omfa.models import HEADS, graph, make_head
from omfa.models.heads import (
    GCN,
    GATv2,
    Nodes,
    PairScores,
    drop_channels,
    normalised,
    pair_scores,
)

# torch_geometric scripts some of its classes when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


def random_graph(n, chance):
    """Edges [i, j] from j to i, every node hearing itself."""
    return (torch.rand(n, n) < chance) | torch.eye(n, dtype=torch.bool)


def edge_list(edges):
    target, source = edges.nonzero(as_tuple=True)
    return torch.stack((source, target))


def from_geometric(conv, dim, heads):
    ours = GATv2(dim, heads * conv.out_channels, heads)
    ours.source.load_state_dict(conv.lin_l.state_dict())
    ours.target.load_state_dict(conv.lin_r.state_dict())
    ours.score.data, ours.shift.data = conv.att.data[0], conv.bias.data
    return ours


@pytest.mark.parametrize("chance", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("heads", [1, 4])
def test_gatv2_is_torch_geometrics(heads, chance):
    from torch_geometric.nn import GATv2Conv

    n, dim = 19, 24
    conv = GATv2Conv(dim, 8, heads=heads, add_self_loops=False)
    torch.nn.init.normal_(conv.bias)
    ours = from_geometric(conv, dim, heads)
    x, edges = torch.randn(5, n, dim), torch.stack([random_graph(n, chance) for _ in range(5)])
    weight = torch.randn(5, n, 8 * heads)
    got = ours(x, edges)
    want = torch.stack([conv(one, edge_list(e)) for one, e in zip(x, edges, strict=True)])
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
    (got * weight).sum().backward()
    (want * weight).sum().backward()
    for a, b in (
        (ours.source.weight.grad, conv.lin_l.weight.grad),
        (ours.target.weight.grad, conv.lin_r.weight.grad),
        (ours.score.grad, conv.att.grad[0]),
    ):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("chance", [0.1, 0.5, 1.0])
def test_gcn_is_torch_geometrics(chance):
    from torch_geometric.nn import GCNConv

    n, dim = 19, 24
    conv = GCNConv(dim, 16, add_self_loops=False)
    torch.nn.init.normal_(conv.bias)
    ours = GCN(dim, 16)
    ours.lin.load_state_dict(conv.lin.state_dict())
    ours.shift.data = conv.bias.data
    x = torch.randn(5, n, dim)
    adjacency = torch.stack([random_graph(n, chance) * torch.rand(n, n) for _ in range(5)])
    want = [conv(one, edge_list(a > 0), a[a > 0]) for one, a in zip(x, adjacency, strict=True)]
    torch.testing.assert_close(ours(x, adjacency), torch.stack(want), atol=1e-5, rtol=1e-5)


def test_pair_scores_in_slices_are_the_plain_expression(monkeypatch):
    monkeypatch.setattr(PairScores, "SLICE", 2 * 7 * 7 * 12)
    source, target = torch.randn(5, 7, 12).double(), torch.randn(5, 7, 12).double()
    inputs = [t.requires_grad_() for t in (source, target, torch.randn(3, 4).double())]
    pair = torch.nn.functional.leaky_relu(source[:, None] + target[:, :, None], 0.2)
    want = torch.einsum("bijhc,hc->bhij", pair.unflatten(-1, (3, 4)), inputs[2])
    torch.testing.assert_close(pair_scores(*inputs, 0.2), want)
    assert torch.autograd.gradcheck(lambda *a: pair_scores(*a, 0.2), inputs)


def case(n=9, dim=32, batch=3):
    present = torch.ones(batch, n, dtype=torch.bool)
    return torch.randn(batch, n, dim), present, 0.1 * torch.randn(n, 3)


ON_NODES = [name for name in HEADS if name != "coherency"]


@pytest.mark.parametrize("name", ON_NODES)
def test_heads_read_a_set_of_channels(name):
    head = make_head(name, 32).eval()
    x, present, positions = case()
    order = torch.randperm(9)
    want = head(x, present, positions)
    torch.testing.assert_close(
        head(x[:, order], present[:, order], positions[order]), want, atol=1e-5, rtol=1e-5
    )
    torch.testing.assert_close(
        head(x, present, positions.expand(3, -1, -1)), want, atol=1e-5, rtol=1e-5
    )
    present[:, 6:] = False
    torch.testing.assert_close(
        head(x, present, positions),
        head(x[:, :6], present[:, :6], positions[:6]),
        atol=1e-5,
        rtol=1e-5,
    )


@pytest.mark.parametrize("name", ["gat", "gcn", "gcn_learned"])
def test_graphs_hear_where_the_electrodes_are(name):
    head = make_head(name, 32).eval()
    x, present, positions = case()
    near, far = head(x, present, 0.1 * positions), head(x, present, positions)
    assert (near - far).abs().max() > 1e-3


@pytest.mark.parametrize("name", ON_NODES)
def test_every_parameter_of_a_head_learns(name):
    head = make_head(name, 32)
    x, present, positions = case()
    positions[0] = float("nan")
    head(x, present, positions).square().sum().backward()
    for parameter, value in head.named_parameters():
        assert value.grad is not None, parameter
        assert value.grad.abs().sum() > 0, parameter


@pytest.mark.parametrize("name", HEADS)
def test_every_head_reads_pairs_in_one_way_or_none(name):
    """With what is made of the nodes at a gain of 0.1; the coherency alone without it."""
    x, present, positions = case()
    pairs = torch.randn(3, 9, 9, 10)
    head = make_head(name, 32, pair_dim=10).eval()
    expected = head.pair_readout(pairs, present, positions)
    if name != "coherency":
        without = make_head(name, 32).eval()
        assert without.pair_readout is None
        torch.testing.assert_close(
            without(x, present, positions, pairs), without(x, present, positions)
        )
        without.load_state_dict(head.state_dict(), strict=False)
        expected = expected + 0.1 * without(x, present, positions)
    torch.testing.assert_close(head(x, present, positions, pairs), expected)


def test_coherency_alone_needs_it():
    with pytest.raises(ValueError, match="connectivity=False leaves it out"):
        make_head("coherency", 32)


def test_edges_and_channels_are_dropped_in_training_only():
    x, present, positions = case()
    for name in ("gat", "gcn"):
        head = make_head(name, 32, drop_prob=0.0, edge_drop_prob=0.5)
        assert not torch.allclose(head(x, present, positions), head(x, present, positions))
        head.eval()
        torch.testing.assert_close(head(x, present, positions), head(x, present, positions))
    present = torch.rand(500, 14) < 0.7
    present[:, 0] = True
    kept = drop_channels(present, 0.2)
    assert not (kept & ~present).any()
    assert kept.any(1).all()
    assert kept.sum() / present.sum() == pytest.approx(0.8, abs=0.03)
    assert (drop_channels(present, 1.0).sum(1) == 1).all()


def test_nodes_know_power_relative_to_the_present_channels():
    nodes = Nodes(8, 16)
    h, side = torch.randn(2, 5, 8), torch.randn(2, 5, 7)
    present = torch.ones(2, 5, dtype=torch.bool)
    present[:, 4] = False
    places = torch.full((5, 3), float("nan"))
    want = nodes(h[:, :4], side[:, :4], present[:, :4], places[:4])
    torch.testing.assert_close(nodes(h, side, present, places)[:, :4], want)


def test_embeddings_that_are_centred_keep_their_length():
    """Nodes of normalised embeddings are those of the embeddings; no norm comes after that."""
    nodes = Nodes(8, 16)
    h, side = 5 * torch.randn(2, 5, 8) + 3, torch.randn(2, 5, 7)
    rest = side, torch.ones(2, 5, dtype=torch.bool), 0.1 * torch.randn(5, 3)
    torch.testing.assert_close(nodes(h, *rest), nodes.of_normalised(normalised(h), *rest))
    step = [nodes.of_normalised(k * h, *rest) for k in (0, 1, 2)]
    torch.testing.assert_close(step[2] - step[1], step[1] - step[0], atol=1e-4, rtol=1e-4)


def test_an_unknown_head_lists_the_known():
    with pytest.raises(ValueError, match="head 'lstm' is unknown; known: gat, gcn"):
        make_head("lstm", 32)


def test_positions_come_from_the_info_then_from_the_name(montage_info):
    info = montage_info(["Fz", "Cz", "T7", "PO9"])
    by_info = graph.electrode_positions(info["chs"])
    names = [{"ch_name": name} for name in ("FZ", "cz.", "T3", "CB1")]
    np.testing.assert_allclose(graph.electrode_positions(names), by_info, atol=1e-9)
    moved = [{"ch_name": "Fz", "loc": np.array([0.01, 0.02, 0.03])}]
    np.testing.assert_allclose(graph.electrode_positions(moved), [[0.01, 0.02, 0.03]])
    nowhere = [{"ch_name": "EEG 001"}, {"ch_name": "X", "loc": np.zeros(12)}, {"loc": None}]
    assert np.isnan(graph.electrode_positions(nowhere)).all()
    unplaced = [{"ch_name": "Cz", "loc": np.full(12, np.nan)}]
    np.testing.assert_allclose(graph.electrode_positions(unplaced), by_info[1:2])


def test_distances_and_their_graph():
    nan = float("nan")
    positions = torch.tensor([[0.0, 0, 0], [0.03, 0.04, 0], [nan, nan, nan]])
    distance, known = graph.pair_distances(positions)
    torch.testing.assert_close(
        distance, torch.tensor([[0, 0.05, 0.1], [0.05, 0, 0.1], [0.1, 0.1, 0]])
    )
    assert known.tolist() == [[True, True, False], [True, True, False], [False, False, True]]
    weights = graph.distance_graph(positions)
    assert weights[0, 1] == pytest.approx(np.exp(-0.5))
    assert graph.distance_features(positions).shape == (3, 3, graph.N_DISTANCE)
    features = graph.position_features(positions)
    assert features.shape == (3, graph.N_POSITION)
    assert features[2].tolist() == [0.0] * (graph.N_POSITION - 1) + [1.0]
