"""One optimizer and schedule: those that both stages had when each wrote its own, bit for bit."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from omfa.zoo.estimators.network import Network, Training
from omfa.zoo.estimators.schedule import adamw_and_schedule, rate_at
from omfa.zoo.pretraining.module import LEARNING_RATE, Contrastive, Settings

SIZES = [(1, 0.1), (2, 0.1), (7, 0.0), (12, 0.1), (480, 0.1), (480, 0.95), (20_000, 0.05)]


def first_rates(n_steps, warm_up, cos=math.cos):
    """The rates as both stages wrote them first: stage 1 with NumPy's cosine, stage 2 with this."""
    rising = max(1, round(warm_up * n_steps))
    for step in range(n_steps + 1):
        if step < rising:
            yield (step + 1) / rising
        else:
            done = (step - rising) / max(1, n_steps - rising)
            yield float(0.5 * (1 + cos(math.pi * min(1.0, done))))


class Net(nn.Module):
    """An encoder of two blocks, a norm that is in none of the named parts, and a final layer."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.embed = nn.Linear(5, 4)
        self.encoder.blocks = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4, bias=False)])
        self.encoder.norm = nn.LayerNorm(4)
        self.final_layer = nn.Linear(4, 2)

    def forward(self, x):
        h = self.encoder.embed(x)
        for block in self.encoder.blocks:
            h = h + block(h).tanh()
        return self.final_layer(self.encoder.norm(h))


def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net()


def trained(network, optimizer, schedule, steps):
    """Weights after some steps, and the rates of each step's groups."""
    x = torch.randn(16, 5, generator=torch.Generator().manual_seed(1))
    rates = []
    for _ in range(steps):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.zero_grad()
        (network(x) - 3).square().mean().backward()
        optimizer.step()
        schedule.step()
    return torch.cat([p.detach().flatten() for p in network.parameters()]), rates


def same_training(one, other, steps=20):
    """Both learn the same, at the same rates, and their states are laid out alike."""
    weights, rates = trained(*one, steps)
    again, rates_again = trained(*other, steps)
    assert torch.equal(weights, again)
    assert rates == rates_again
    described, described_again = (
        [
            {key: value for key, value in group.items() if key != "params"}
            | {"params": [p.shape for p in group["params"]]}
            for group in optimizer.param_groups
        ]
        for _, optimizer, _ in (one, other)
    )
    assert described == described_again


@pytest.mark.parametrize(("n_steps", "warm_up"), SIZES)
def test_the_rates_are_those_of_both_stages(n_steps, warm_up):
    rates = [rate_at(step, n_steps, warm_up) for step in range(n_steps + 1)]
    assert rates == list(first_rates(n_steps, warm_up))
    # Here they are the same to the last bit too; NumPy has a cosine for each kind of processor.
    assert rates == pytest.approx(list(first_rates(n_steps, warm_up, np.cos)), rel=0, abs=2.3e-16)


def test_the_rate_rises_to_1_and_falls_to_0():
    rates = [rate_at(step, 100, 0.1) for step in range(101)]
    assert rates[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert max(rates) == rates[9] == rates[10] == 1
    assert (np.diff(rates[10:]) < 0).all()
    assert rates[100] == rate_at(1000, 100, 0.1) == 0


def test_it_is_the_optimizer_that_stage_1_wrote_first():
    settings = Settings(preset="tiny", steps=30, warm_up=0.2)
    lr, network = LEARNING_RATE["tiny"], net()
    groups = [
        {"params": [p for p in network.parameters() if p.ndim >= 2], "weight_decay": 0.05},
        {"params": [p for p in network.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    first = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95))
    rates = list(first_rates(30, 0.2))
    first_schedule = torch.optim.lr_scheduler.LambdaLR(first, rates.__getitem__)
    other = net()
    made = adamw_and_schedule(
        [(other.parameters(), 1.0)],
        lr=lr,
        weight_decay=settings.weight_decay,
        n_steps=settings.steps,
        warm_up=settings.warm_up,
        betas=(0.9, 0.95),
    )
    same_training((network, first, first_schedule), (other, *made))


@pytest.mark.parametrize("lr", [None, 3e-4])
def test_stage_1_uses_it(lr):
    """Stage 1 makes the same groups, so that optimizers saved by either go on with the other."""
    settings = Settings(preset="tiny", steps=30, warm_up=0.2, lr=lr)
    model = Contrastive(settings, {})
    made = model.configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    assert made["lr_scheduler"]["interval"] == "step"
    ours, our_schedule = adamw_and_schedule(
        [(model.parameters(), 1.0)],
        lr=lr or LEARNING_RATE["tiny"],
        weight_decay=settings.weight_decay,
        n_steps=settings.steps,
        warm_up=settings.warm_up,
        betas=(0.9, 0.95),
    )
    for group, same in zip(optimizer.param_groups, ours.param_groups, strict=True):
        assert [id(p) for p in group["params"]] == [id(p) for p in same["params"]]
        assert {k: v for k, v in group.items() if k != "params"} == {
            k: v for k, v in same.items() if k != "params"
        }
    for step in range(31):
        rates = [each.lr_lambdas[0](step) for each in (schedule, our_schedule)]
        assert rates[0] == pytest.approx(rates[1], rel=0, abs=2.3e-16)


@pytest.mark.parametrize("how", [{}, {"encoder_lr_scale": 0.1}, {"layer_decay": 0.7}])
def test_it_is_the_optimizer_that_stage_2_wrote_first_and_uses(how):
    training = Training(epochs=5, lr=3e-3, warm_up=0.2)

    def fresh():
        network = Network("net", lambda _: net(), training, seed=0, **how)
        network.network_ = net()
        return network

    def made(network):
        return adamw_and_schedule(
            network.rates(),
            lr=training.lr,
            weight_decay=training.weight_decay,
            n_steps=30,
            warm_up=training.warm_up,
        )

    first, second, third, fourth = (fresh() for _ in range(4))
    groups = [
        {
            "params": [p for p in parameters if (p.ndim > 1) is matrices],
            "lr": training.lr * scale,
            "weight_decay": training.weight_decay if matrices else 0.0,
        }
        for parameters, scale in first.rates()
        for matrices in (True, False)
    ]
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]])
    rates = list(first_rates(30, 0.2))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rates.__getitem__)
    same_training((first.network_, optimizer, schedule), (second.network_, *made(second)))
    same_training((third.network_, *third.optimizer(30)), (fourth.network_, *made(fourth)))


def test_parameters_of_no_group_are_none_and_iterators_are_read_once():
    vectors = [nn.Parameter(torch.zeros(3))]
    optimizer, _ = adamw_and_schedule(
        [(iter(vectors), 0.5)], lr=1.0, weight_decay=0.1, n_steps=10, warm_up=0.0
    )
    (group,) = optimizer.param_groups
    assert (group["lr"], group["weight_decay"]) == (0.5, 0.0)
