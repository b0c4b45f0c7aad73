"""Distributed training with TensorFlow's MultiWorkerMirroredStrategy, and a check of the weights.

The strategy reads who the workers are from TF_CONFIG, which mlstead sets. The training loop is our
own: Keras 3 does not support this strategy. Each worker computes the gradients of its share of
every batch, they are summed over all, and every worker takes the same step. At the end all weights
are compared over the workers, and with a training in one process.
"""

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
from images import load

try:
    from mlstead import log
except ImportError:  # by hand, where mlstead is not installed

    def log(**values: float) -> None:
        """Show what a run would record."""
        print(values)


BATCH = 64  # images a step, over all workers together
SEED = 0
RATE = 0.1
CLOSE = 1e-4  # of weights about 0.1; sums in another order differ by about 1e-6
LAYERS = ((784, 128), (128, 10))


class Data(NamedTuple):
    """Images as [n, 784], and their classes."""

    images: np.ndarray
    labels: np.ndarray


class Share(NamedTuple):
    """Which worker of how many; 0 of 1 is a process that does everything."""

    rank: int
    world: int


def share_of_this_worker() -> Share:
    """Read from TF_CONFIG who we are; alone if it is not set."""
    config = json.loads(os.environ.get("TF_CONFIG", "{}"))
    workers = config.get("cluster", {}).get("worker", ["alone"])
    return Share(int(config.get("task", {}).get("index", 0)), len(workers))


def start_weights() -> list[np.ndarray]:
    """Make the weights and biases to start from, the same every time."""
    chance = np.random.default_rng(SEED)
    weights = []
    for size, width in LAYERS:
        bound = size**-0.5
        weights.append(chance.uniform(-bound, bound, (size, width)).astype(np.float32))
        weights.append(np.zeros(width, np.float32))
    return weights


def batches(data: Data, epoch: int, share: Share) -> Iterator[Data]:
    """Give a worker's share of every batch of an epoch; all shares are of the same size."""
    places = np.random.default_rng(SEED + epoch).permutation(len(data.labels))
    size = min(BATCH, len(places)) // share.world * share.world
    if not size:
        raise SystemExit(f"{len(places)} images are too few for {share.world} workers")
    for at in range(0, len(places) - size + 1, size):
        mine = places[at : at + size][share.rank :: share.world]
        yield Data(data.images[mine], data.labels[mine])


class Training:
    """Weights under a strategy, and the step that all its workers take together."""

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self.strategy = strategy
        with strategy.scope():
            self.weights = [tf.Variable(value) for value in start_weights()]
        self._step = tf.function(self._one_step)

    def epoch(self, data: Data, number: int, share: Share) -> float:
        """Train for one epoch; give the mean loss over all workers."""
        losses = [
            self._step(tf.constant(batch.images), tf.constant(batch.labels))
            for batch in batches(data, number, share)
        ]
        return float(np.mean([loss.numpy() for loss in losses]))

    def values(self) -> list[np.ndarray]:
        """Give this worker's copy of the weights."""
        local = self.strategy.experimental_local_results
        return [local(weight)[0].numpy() for weight in self.weights]

    def _one_step(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        losses = self.strategy.run(self._on_replica, args=(images, labels))
        return self.strategy.experimental_local_results(losses)[0]

    def _on_replica(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            hidden = tf.nn.relu(images @ self.weights[0] + self.weights[1])
            scores = hidden @ self.weights[2] + self.weights[3]
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=scores)
            )
        replica = tf.distribute.get_replica_context()
        mean = tf.distribute.ReduceOp.MEAN
        gradients = replica.all_reduce(mean, tape.gradient(loss, self.weights))
        for weight, gradient in zip(self.weights, gradients, strict=True):
            weight.assign_sub(RATE * gradient)
        return replica.all_reduce(mean, loss)


def differ_over_workers(training: Training) -> float:
    """Give the largest difference between any worker's weights and the first worker's.

    Every worker adds its weights in a row of its own to a table; the sum over all is the table of
    all workers' weights.
    """
    share = share_of_this_worker()
    flat = np.concatenate([value.ravel() for value in training.values()])
    rows = np.zeros((share.world, len(flat)), np.float32)
    rows[share.rank] = flat

    @tf.function
    def table(mine: tf.Tensor) -> tf.Tensor:
        def on_replica(row: tf.Tensor) -> tf.Tensor:
            replica = tf.distribute.get_replica_context()
            placed = tf.identity(row)  # all_reduce wants a tensor that lies on a device
            return replica.all_reduce(tf.distribute.ReduceOp.SUM, placed)

        summed = training.strategy.run(on_replica, args=(mine,))
        return training.strategy.experimental_local_results(summed)[0]

    gathered = table(tf.constant(rows)).numpy()
    if not np.array_equal(gathered[share.rank], flat):
        raise SystemExit("the workers did not exchange anything")
    return float(np.abs(gathered - gathered[0]).max())


def differ_from_one_process(weights: list[np.ndarray], data: Data, epochs: int) -> float:
    """Train once more in this process alone; give the largest difference between the weights."""
    alone = Training(tf.distribute.OneDeviceStrategy("/cpu:0"))
    for number in range(epochs):
        alone.epoch(data, number, Share(0, 1))
    pairs = zip(alone.values(), weights, strict=True)
    return max(float(np.abs(one - other).max()) for one, other in pairs)


def accuracy(weights: list[np.ndarray], data: Data) -> float:
    """Give the share of images whose class is found."""
    hidden = np.maximum(data.images @ weights[0] + weights[1], 0)
    return float(((hidden @ weights[2] + weights[3]).argmax(1) == data.labels).mean())


def main() -> None:
    """Train, compare, and leave the model and what the comparison found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, help="the folder with the IDX files")
    parser.add_argument("--epochs", type=int, default=30)
    given = parser.parse_args()
    share = share_of_this_worker()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    folder = given.images or Path(os.environ.get("MLSTEAD_INPUTS", ".")) / "images"
    data = Data(*load(folder, "train"))

    strategy = tf.distribute.MultiWorkerMirroredStrategy()  # waits for all workers
    if strategy.num_replicas_in_sync != share.world:
        raise SystemExit(f"{strategy.num_replicas_in_sync} replicas for {share.world} workers")
    training = Training(strategy)
    for number in range(given.epochs):
        loss = training.epoch(data, number, share)
        log(loss=loss, step=number)
        if share.rank == 0:
            print(f"epoch {number + 1} of {given.epochs}: loss {loss:.4f}", flush=True)
    between = differ_over_workers(training)
    if between:
        raise SystemExit(f"the workers' weights differ by {between}")
    if share.rank == 0:
        weights = training.values()
        values = {
            "world": share.world,
            "difference_over_workers": between,
            "difference_from_one_process": differ_from_one_process(weights, data, given.epochs),
            "accuracy": accuracy(weights, Data(*load(folder, "t10k"))),
        }
        outputs = Path(os.environ.get("MLSTEAD_OUTPUTS", "outputs"))
        (outputs / "model").mkdir(parents=True, exist_ok=True)
        names = ("weights1", "biases1", "weights2", "biases2")
        np.savez(outputs / "model" / "weights.npz", **dict(zip(names, weights, strict=True)))
        (outputs / "values.json").write_text(json.dumps(values))
        print(json.dumps(values, indent=2), flush=True)
        if values["difference_from_one_process"] > CLOSE:
            raise SystemExit("the weights are not those of one process")


if __name__ == "__main__":
    main()
