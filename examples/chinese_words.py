"""Tutorial 4: the same network on words, 200 hidden units, on a Chinese text as it lies on the disk, GBK or not.

Run it: python examples/chinese_words.py FILE [ITERATIONS]
Nobody has to say how the file is written; jieba's dictionary cuts it into words (python -m pip install 'elman[zh]').
The tutorial's learning rate of 0.1 sends the loss up for the first 1,000 iterations: 0.02 is stable from nearly all
starts and ends lower.
`elman train FILE --tokenizer word --preset min-char-rnn --hidden-size 200 --learning-rate 0.02` trains in the same way.
"""

import math
import sys

import numpy as np

import elman
from elman.batches import StreamWindows
from elman.text.sources import open_text
from elman.text.tokenizers import train_tokenizer


def main(path: str, iterations: int) -> None:
    text = open_text([path])
    for note in text.notes:
        print(note)
    tokenizer = train_tokenizer("word", text.chunks(), unknown=False)
    ids = np.concatenate(list(tokenizer.encode_chunks(text.chunks())))
    print(f"data has {len(ids)} words, {tokenizer.vocab_size} unique.")

    config = elman.ModelConfig(
        vocab_size=tokenizer.vocab_size, cell="rnn", hidden_size=200, num_layers=1, initialization="normal-0.01"
    )
    model = elman.LanguageModel(config, seed=0)
    optimizer = elman.optimizers.Adagrad(learning_rate=0.02)
    windows = StreamWindows(ids, batch_size=1, seq_length=25, tail="drop")
    rng = np.random.default_rng(0)

    state = model.initial_state(1)
    smooth_loss = math.log(tokenizer.vocab_size) * 25  # loss at iteration 0
    for n in range(iterations):
        batch = windows.batch(n)
        if batch.reset[0]:
            state = model.initial_state(1)
        loss, gradients, state = model.loss_and_gradients(batch.inputs, batch.targets, state, reduction="sum")
        smooth_loss = smooth_loss * 0.999 + loss * 0.001
        if n % 100 == 0:
            print(f"iter {n}, loss: {smooth_loss:.4f}")
            sample = elman.SampleConfig(length=50, temperature=1.0)
            print(f"----\n{tokenizer.decode(list(model.generate(batch.inputs[0], sample, state, rng)))}\n----")
        elman.optimizers.clip_by_value(gradients, 5.0)
        optimizer.update(model.parameters, gradients)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python examples/chinese_words.py FILE [ITERATIONS]")
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 10_000)
