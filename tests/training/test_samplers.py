from hypothesis import given
from hypothesis import strategies as st

from cgeartheye.training.samplers import TrainingOrder, derive_seed
from cgeartheye.training.samplers import test_order as order_of_a_test

sizes = st.integers(1, 60)
small = st.integers(1, 7)


def orders(count: int, batch: int, grad_accum_steps: int, world: int) -> list[TrainingOrder]:
    return [
        TrainingOrder(count, batch, grad_accum_steps, rank, world, seed=3) for rank in range(world)
    ]


@given(count=sizes, batch=small, grad_accum_steps=small, world=small)
def test_weights_make_every_sample_count_once(
    count: int, batch: int, grad_accum_steps: int, world: int
) -> None:
    ranks = orders(count, batch, grad_accum_steps, world)
    seen: list[int] = []
    streams = [order.epoch(0) for order in ranks]
    for step in range(ranks[0].steps):
        weight_of: dict[int, float] = {}
        for micro in range(grad_accum_steps):
            for order, stream in zip(ranks, streams, strict=True):
                keys = next(stream)
                assert keys
                weight = order.weight(step, micro) / world / len(keys)
                for sample, _ in keys:
                    weight_of[sample] = weight_of.get(sample, 0.0) + weight
        counted = {sample: w for sample, w in weight_of.items() if w > 0}
        assert len(counted) == ranks[0].samples(step)
        # The mean over the samples of the step, whoever computed them.
        assert all(abs(w - 1 / len(counted)) < 1e-12 for w in counted.values())
        seen += counted
    assert sorted(seen) == list(range(count))
    assert all(next(stream, None) is None for stream in streams)


@given(count=sizes, batch=small, world=small, factor=st.integers(1, 3))
def test_a_step_sees_the_same_samples_for_any_number_of_processes(
    count: int, batch: int, world: int, factor: int
) -> None:
    one = [orders(count, batch * world * factor, 1, 1)[0].epoch(2)]
    many = [order.epoch(2) for order in orders(count, batch, factor, world)]
    weights = orders(count, batch, factor, world)
    for step in range(weights[0].steps):
        alone = set(next(one[0]))
        together = set()
        for micro in range(factor):
            for order, stream in zip(weights, many, strict=True):
                keys = next(stream)
                together |= set(keys) if order.weight(step, micro) else set()
        assert together == alone


def test_an_epoch_resumes_where_it_stopped_and_epochs_differ() -> None:
    order = TrainingOrder(50, 4, 2, 0, 1, seed=0)
    whole = list(order.epoch(1))
    assert list(order.epoch(1, first_step=3)) == whole[3 * 2 :]
    assert list(order.epoch(2)) != whole


@given(count=st.integers(0, 60), batch=small, world=small)
def test_test_order_gives_every_sample_once_in_the_same_batches(
    count: int, batch: int, world: int
) -> None:
    together = [b for rank in range(world) for b in order_of_a_test(count, batch, rank, world)]
    assert sorted(map(tuple, together)) == sorted(map(tuple, order_of_a_test(count, batch, 0, 1)))
    assert sorted(i for b in together for i in b) == list(range(count))


def test_seeds_differ_by_part() -> None:
    seeds = {derive_seed(a, b) for a in range(20) for b in range(20)} | {derive_seed("a/0")}
    assert len(seeds) == 401
    assert all(0 <= s < 2**63 for s in seeds)
    assert derive_seed(1, "x") == derive_seed(1, "x")
