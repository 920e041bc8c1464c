"""The order of samples, the learning rate and the log as functions of the step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vidpose.train.callbacks import AveragedWeights, CsvLog
from vidpose.train.module import configure_optimizers, rate_function, step_seed
from vidpose.train.recipe import TrainSection
from vidpose.train.sampler import StepBatchSampler, steps_per_epoch


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 8), st.integers(0, 60), st.integers(1, 3))
def test_any_start_continues_the_same_order(length: int, batch: int, start: int, world: int) -> None:
    for rank in range(world):
        common = {"seed": 5, "stop": 80, "rank": rank, "world_size": world}
        whole = list(StepBatchSampler(length, batch, start=0, **common))
        assert list(StepBatchSampler(length, batch, start=start, **common)) == whole[start:]
        assert len(whole) == 80


@settings(max_examples=60, deadline=None)
@given(st.integers(6, 40), st.integers(1, 3), st.integers(1, 2))
def test_an_epoch_shows_no_sample_twice(length: int, batch: int, world: int) -> None:
    per_epoch = steps_per_epoch(length, batch, world)
    for epoch in range(3):
        start, stop = epoch * per_epoch, (epoch + 1) * per_epoch
        seen = [
            key
            for rank in range(world)
            for keys in StepBatchSampler(
                length, batch, seed=1, start=start, stop=stop, rank=rank, world_size=world
            )
            for key in keys
        ]
        assert len(seen) == len(set(seen)) == per_epoch * batch * world
        assert {key[0] for key in seen} == {epoch}


def test_orders_differ_between_epochs_and_seeds() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return StepBatchSampler(50, 5, seed=seed, start=0, stop=1).permutation(epoch).tolist()

    assert order(0, 0) != order(0, 1) != order(1, 1)
    assert sorted(order(3, 4)) == list(range(50))


def test_step_schedule_is_the_papers() -> None:
    # TDMI: 1e-3, x0.1 at epochs 6, 12, 18
    rate = rate_function(TrainSection(milestones=[6, 12, 18]), 10, 200)
    assert [rate(10 * epoch) for epoch in (0, 5, 6, 11, 12, 17, 18)] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01, 0.01, 0.001]
    )
    assert rate(59) == 1 and rate(60) == pytest.approx(0.1)


def test_warm_up_is_linear_and_cosine_ends_at_zero() -> None:
    rate = rate_function(TrainSection(warmup_steps=4), 10, 200)
    assert [rate(step) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    rate = rate_function(TrainSection(schedule="cosine"), 10, 200)
    assert [rate(0), rate(100), rate(200)] == pytest.approx([1, 0.5, 0])


@pytest.mark.parametrize(
    ("optimizer", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)], ids=["adam", "adamw"]
)
def test_optimizer_has_the_recipes_values(optimizer: str, kind: type) -> None:
    train = TrainSection(optimizer=optimizer, lr=3e-4, weight_decay=0.2, adam_eps=1e-10)
    made = configure_optimizers(torch.nn.Linear(2, 2), train, 10, 100)["optimizer"]
    assert type(made) is kind
    [group] = made.param_groups
    assert (group["initial_lr"], group["weight_decay"], group["eps"]) == (3e-4, 0.2, 1e-10)


def test_a_smaller_epsilon_moves_what_has_tiny_gradients() -> None:
    def moved(adam_eps: float) -> float:
        layer = torch.nn.Linear(1, 1, bias=False)
        before = layer.weight.item()
        train = TrainSection(optimizer="adamw", lr=1e-3, weight_decay=0, adam_eps=adam_eps)
        optimizer = configure_optimizers(layer, train, 10, 100)["optimizer"]
        layer.weight.grad = torch.full_like(layer.weight, 1e-9)
        optimizer.step()
        return abs(layer.weight.item() - before)

    assert moved(1e-8) < 2e-4 < 9e-4 < moved(1e-10)


def test_step_seeds_do_not_repeat() -> None:
    seeds = {step_seed(seed, step, rank) for seed in range(5) for step in range(100) for rank in range(2)}
    assert len(seeds) == 1000 and all(0 <= seed < 2**63 for seed in seeds)


def test_csv_log_drops_what_comes_after_the_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    log = CsvLog(file, 0)
    for step in range(1, 6):
        log.write({"step": step, "loss": step / 10})
    with open(file, "a") as half:
        half.write("6,0.")  # killed while writing
    again = CsvLog(file, 3)
    again.write({"step": 4, "loss": 0.9})
    assert file.read_text() == "step,loss\n1,0.1\n2,0.2\n3,0.3\n4,0.9\n"


def test_average_of_weights_follows_its_formula() -> None:
    class Holder:
        model = torch.nn.Linear(1, 1, bias=False)

    average = AveragedWeights(0.9)
    with torch.no_grad():
        Holder.model.weight.fill_(1.0)
    average.on_train_start(None, Holder)
    wanted = 1.0
    for step in range(1, 40):
        with torch.no_grad():
            Holder.model.weight.fill_(float(step))
        average.on_train_batch_end(None, Holder, None, None, step)
        decay = min(0.9, (1 + step) / (10 + step))
        wanted = decay * wanted + (1 - decay) * step
    with average.applied(Holder):
        assert Holder.model.weight.item() == pytest.approx(wanted, rel=1e-5)
    assert Holder.model.weight.item() == 39
