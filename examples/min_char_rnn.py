"""Tutorial 3: the 100-line character RNN, written with elman's parts, on a text file of yours.

Run it: python examples/min_char_rnn.py [FILE] [ITERATIONS]
Without a file it learns Python's own documentation. `elman train FILE --preset min-char-rnn` trains in the same way.
"""

import math
import sys
from pathlib import Path

import numpy as np

import elman
from elman.batches import StreamWindows
from elman.text.corpora import python_topics
from elman.text.tokenizers import CharTokenizer


def main(text: str, iterations: int) -> None:
    tokenizer = CharTokenizer.train(text, unknown=False)
    ids = tokenizer.encode(text)
    print(f"data has {len(text)} characters, {tokenizer.vocab_size} unique.")

    config = elman.ModelConfig(
        vocab_size=tokenizer.vocab_size, cell="rnn", hidden_size=100, num_layers=1, initialization="normal-0.01"
    )
    model = elman.LanguageModel(config, seed=0)
    optimizer = elman.optimizers.Adagrad(learning_rate=0.1)
    windows = StreamWindows(ids, batch_size=1, seq_length=25, tail="drop")
    rng = np.random.default_rng(0)

    state = model.initial_state(1)
    smooth_loss = math.log(tokenizer.vocab_size) * 25  # loss at iteration 0
    for n in range(iterations):
        batch = windows.batch(n)
        if batch.reset[0]:
            state = model.initial_state(1)  # the text begins again, and so does the memory
        if n % 1000 == 0:
            sample = elman.SampleConfig(length=200, temperature=1.0)
            print(f"----\n{tokenizer.decode(list(model.generate(batch.inputs[0], sample, state, rng)))}\n----")
        loss, gradients, state = model.loss_and_gradients(batch.inputs, batch.targets, state, reduction="sum")
        smooth_loss = smooth_loss * 0.999 + loss * 0.001
        if n % 1000 == 0:
            print(f"iter {n}, loss: {smooth_loss:.4f}")
        elman.optimizers.clip_by_value(gradients, 5.0)
        optimizer.update(model.parameters, gradients)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(
        Path(arguments[0]).read_text(encoding="utf-8") if arguments else python_topics(),
        int(arguments[1]) if len(arguments) > 1 else 10_000,
    )
