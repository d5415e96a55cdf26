"""Tutorial 1: a recurrent network with 100 hidden units learns the word 'hello', so that 'hell' is followed by 'o'.

Run it: python examples/hello.py
"""

import numpy as np

import elman

TEXT = "hello"


def main() -> None:
    letters = sorted(set(TEXT))  # the four letters e, h, l, o are the ids 0 to 3
    ids = np.array([letters.index(letter) for letter in TEXT])
    inputs, targets = ids[:-1, np.newaxis], ids[1:, np.newaxis]  # 'hell' -> 'ello': four time steps of one stream

    config = elman.ModelConfig(
        vocab_size=len(letters), cell="rnn", hidden_size=100, num_layers=1, initialization="normal-0.01"
    )
    model = elman.LanguageModel(config, seed=0)
    optimizer = elman.optimizers.Adagrad(learning_rate=0.1)

    for step in range(101):
        loss, gradients, _ = model.loss_and_gradients(inputs, targets, reduction="sum")
        if step % 20 == 0:
            print(f"step {step:3}: loss {loss:.4f} nats in sum")
        elman.optimizers.clip_by_value(gradients, 5.0)
        optimizer.update(model.parameters, gradients)

    network = model.stepper()  # the tutorials' y = rnn.step(x), which keeps its own state
    for letter in "hell":
        scores = network.step(letters.index(letter))
        print(f"after {letter!r} comes {letters[scores.argmax()]!r}")


if __name__ == "__main__":
    main()
