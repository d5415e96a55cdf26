"""A plain transcription of tutorial 3 (A. Karpathy's min-char-rnn): the oracle of the tests and the peer in speed.

One column vector a time step, one-hot inputs, a dict a quantity, as the tutorial has it; only the names are ours.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

NAMES = ("W_xh", "W_hh", "W_hy", "b_h", "b_y")


def initial_parameters(vocab_size: int, hidden_size: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {
        "W_xh": rng.standard_normal((hidden_size, vocab_size)) * 0.01,
        "W_hh": rng.standard_normal((hidden_size, hidden_size)) * 0.01,
        "W_hy": rng.standard_normal((vocab_size, hidden_size)) * 0.01,
        "b_h": np.zeros((hidden_size, 1)),
        "b_y": np.zeros((vocab_size, 1)),
    }


def loss_and_gradients(p, inputs, targets, h_prev):
    """Summed loss of a window, clipped gradients, and the last hidden state."""
    vocab_size = len(p["b_y"])
    x, h, probabilities = {}, {-1: np.copy(h_prev)}, {}
    loss = 0.0
    for t in range(len(inputs)):
        x[t] = np.zeros((vocab_size, 1))
        x[t][inputs[t]] = 1
        h[t] = np.tanh(np.dot(p["W_xh"], x[t]) + np.dot(p["W_hh"], h[t - 1]) + p["b_h"])
        y = np.dot(p["W_hy"], h[t]) + p["b_y"]
        probabilities[t] = np.exp(y) / np.sum(np.exp(y))
        loss += -np.log(probabilities[t][targets[t], 0])
    d = {name: np.zeros_like(p[name]) for name in NAMES}
    d_h_next = np.zeros_like(h[0])
    for t in reversed(range(len(inputs))):
        d_y = np.copy(probabilities[t])
        d_y[targets[t]] -= 1
        d["W_hy"] += np.dot(d_y, h[t].T)
        d["b_y"] += d_y
        d_h = np.dot(p["W_hy"].T, d_y) + d_h_next
        d_raw = (1 - h[t] * h[t]) * d_h
        d["b_h"] += d_raw
        d["W_xh"] += np.dot(d_raw, x[t].T)
        d["W_hh"] += np.dot(d_raw, h[t - 1].T)
        d_h_next = np.dot(p["W_hh"].T, d_raw)
    for name in NAMES:
        np.clip(d[name], -5, 5, out=d[name])
    return loss, d, h[len(inputs) - 1]


def train(p, ids, learning_rate, seq_length=25):
    """The endless loop over the text; p, memory and state are updated after each iteration is yielded.

    Yields (loss, smoothed loss, gradients, memory, h_prev), the last two as they were before the iteration's update.
    """
    memory = {name: np.zeros_like(p[name]) for name in NAMES}
    smooth_loss = -np.log(1.0 / len(p["b_y"])) * seq_length
    n = position = 0
    while True:
        if position + seq_length + 1 >= len(ids) or n == 0:
            h_prev = np.zeros_like(p["b_h"])
            position = 0
        inputs = ids[position : position + seq_length]
        targets = ids[position + 1 : position + seq_length + 1]
        h_before = h_prev
        loss, d, h_prev = loss_and_gradients(p, inputs, targets, h_prev)
        smooth_loss = smooth_loss * 0.999 + loss * 0.001
        yield loss, smooth_loss, d, memory, h_before
        for name in NAMES:
            memory[name] += d[name] * d[name]
            p[name] += -learning_rate * d[name] / np.sqrt(memory[name] + 1e-8)
        position += seq_length
        n += 1


def sample(p, h, seed_id, n, rng):
    """n ids drawn one after the other, from state h and a first id."""
    vocab_size = len(p["b_y"])
    x = np.zeros((vocab_size, 1))
    x[seed_id] = 1
    drawn = []
    for _ in range(n):
        h = np.tanh(np.dot(p["W_xh"], x) + np.dot(p["W_hh"], h) + p["b_h"])
        y = np.dot(p["W_hy"], h) + p["b_y"]
        probabilities = np.exp(y) / np.sum(np.exp(y))
        drawn.append(rng.choice(range(vocab_size), p=probabilities.ravel()))
        x = np.zeros((vocab_size, 1))
        x[drawn[-1]] = 1
    return drawn


def main(path: str, iterations: int) -> None:
    """The tutorial's script: train, and every 1,000 iterations print the smoothed loss and 200 sampled characters."""
    data = Path(path).read_text(encoding="utf-8")
    characters = sorted(set(data))
    id_of = {character: i for i, character in enumerate(characters)}
    ids = [id_of[character] for character in data]
    rng = np.random.default_rng(0)
    p = initial_parameters(len(characters), 100, rng)
    loop = train(p, ids, learning_rate=0.1)
    for n in range(iterations):
        _, smooth_loss, _, _, h_prev = next(loop)
        if n % 1000 == 0:
            text = "".join(characters[i] for i in sample(p, h_prev, ids[0], 200, rng))
            print(f"----\n {text} \n----\niter {n}, loss: {smooth_loss:f}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
