"""Going on with a run: its checkpoint, what may change, and that its text is still the same."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from elman.config import TrainConfig
from elman.errors import ElmanError, InputError, KernelError, ModelFileError, RunFolderError
from elman.kernels import available_kernels, processors
from elman.models import LanguageModel
from elman.presets import check_option_names
from elman.text.sources import Text, open_again, open_text
from elman.text.split import SplitText, split_text
from elman.text.tokenizers import tokenizer_from_json
from elman.text_model import model_config_from_json
from elman.workflows.run import Compute, Run, model_parameters, open_run
from elman.workflows.run_folder import RunFolder

_NOT_TO_THE_LAST_BIT = "the run goes on, but not to the last bit as it would have"
STOPS = ("steps", "epochs", "minutes")
MAY_CHANGE = (
    *(*STOPS, "patience", "learning_rate", "precision", "on_nan", "keep"),
    *("eval_every", "eval_tokens", "sample_every", "sample_length", "checkpoint_every", "log_every"),
)


def resume_run(
    path: str | Path,
    texts: Sequence[str | Path],
    valid: str | Path | None,
    given: Mapping[str, Any],
    compute: Compute,
    start: float,
) -> Run:
    """The run of a folder as its newest whole checkpoint left it; its log is cut back to there.

    texts, valid: where its texts are now, if not where they were. given: the preset, fields of ModelConfig and
    TrainConfig; those not in ``MAY_CHANGE`` must be what they were. Without kernel ("auto") and threads those of the
    checkpoint compute. start: when the clock began (time.perf_counter).

    Raises RunFolderError and ModelFileError where there is nothing to go on with, InputError for what cannot change.
    """
    check_option_names(name for name in given if name != "preset")
    folder, tensors, metadata = RunFolder.open(path)
    try:
        config = _changed(given, metadata)
        data = _read_data(texts, valid, config, metadata)
        compute, notes = _as_before(compute, metadata)
        model_config = model_config_from_json(metadata["model"])
        parameters = model_parameters(tensors)
        model = LanguageModel(model_config, kernel=compute.kernel, threads=compute.threads, parameters=parameters)
        already = float(metadata["seconds"])
        run = open_run(lambda: folder, metadata["preset"], config, data, model, compute, already, start)
        run.restore(tensors, metadata)
        _check_unfinished(run)
        folder.notes += notes + _notes_of_precision(run.engine.precision, metadata) + _notes_of_end(config, metadata)
        if "learning_rate" in given:
            run.progress.rate_factor = 1.0
        run.begin(metadata["log_lines"])
    except ElmanError:
        folder.close()
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        folder.close()
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ModelFileError(f"{path}: the checkpoint lacks what resume needs ({reason}); start a new run") from None
    except BaseException:
        folder.close()
        raise
    return run


def _changed(given: Mapping[str, Any], metadata: Mapping[str, Any]) -> TrainConfig:
    """The training configuration with what may change changed; raises InputError for what may not, with both values."""
    trained = metadata["training"]
    before = {"preset": metadata["preset"], **metadata["model"], **trained}
    for name, value in given.items():
        if name not in MAY_CHANGE and value != before[name]:
            raise InputError(
                f"{name} cannot change on resume: it is {before[name]}, not {value}; "
                f"start a new run for that. What can change is {', '.join(MAY_CHANGE)}, kernel, threads"
            )
    if any(stop in given for stop in STOPS):
        trained = {**trained, **dict.fromkeys(STOPS)}
    return TrainConfig(**{**trained, **{name: given[name] for name in MAY_CHANGE if name in given}})


def _read_data(
    texts: Sequence[str | Path], valid: str | Path | None, config: TrainConfig, metadata: Mapping[str, Any]
) -> SplitText:
    text, valid_text = metadata["sources"]["text"], metadata["sources"]["valid"]
    if valid is not None and valid_text is None:
        raise InputError(
            "valid cannot change on resume: this run validates on the last part of its text, or on nothing"
        )
    return split_text(
        _read_again(text, texts, config),
        None if valid_text is None else _read_again(valid_text, () if valid is None else (valid,), config),
        config,
        tokenizer_from_json(metadata["tokenizer"]),
    )


def _read_again(before: Mapping[str, Any], now: Sequence[str | Path], config: TrainConfig) -> Text:
    """A text of the run, from where it was or is now; raises RunFolderError with the difference if it is another."""
    encoding = config.encoding, config.encoding_errors
    try:
        text = open_text(now, *encoding) if now else open_again(before["origin"], *encoding)
    except InputError as error:
        raise RunFolderError(
            f"to go on, a run needs the text that it began with ({error}); "
            "where that has moved, name it: elman train TEXT --resume DIR, and --valid FILE for one to validate on"
        ) from None
    if text.sha256 != before["sha256"]:
        wrong = "is not the one that this run began with" if now else "has changed since this run began"
        raise RunFolderError(
            f"the text {', '.join(text.origin)} {wrong}: {before['characters']:,} characters with SHA-256 "
            f"{before['sha256'][:12]}… were read then, {text.characters:,} with {text.sha256[:12]}… now; "
            f"put the old text back, or start a new run"
        )
    return text


def _as_before(compute: Compute, metadata: Mapping[str, Any]) -> tuple[Compute, list[str]]:
    """What computes from now on: what did before, unless told otherwise, and a note where it is something else."""
    before = metadata["kernel"], metadata["threads"] or metadata["processors"]
    kernel, threads = compute.kernel, compute.threads
    if kernel == "auto":
        kernel = before[0]
        if kernel not in available_kernels():
            raise KernelError(
                f"this run was trained by the {kernel} kernel, which is not here; give --kernel numpy to go on"
            )
    if threads is None and before[1] <= processors():
        threads = metadata["threads"]
    now = kernel, threads or processors()
    change = "kernel {} with --threads {} instead of {} with {}".format(*now, *before)
    notes = [] if now == before else [f"{change}: {_NOT_TO_THE_LAST_BIT}"]
    return dataclasses.replace(compute, kernel=kernel, threads=threads), notes


def _notes_of_precision(precision: str, metadata: Mapping[str, Any]) -> list[str]:
    before = metadata.get("precision", metadata["model"]["dtype"])  # the latter before there was a choice
    return [] if precision == before else [f"precision {precision} instead of {before}: {_NOT_TO_THE_LAST_BIT}"]


def _notes_of_end(config: TrainConfig, metadata: Mapping[str, Any]) -> list[str]:
    if config.schedule == "constant" or all(getattr(config, stop) == metadata["training"][stop] for stop in STOPS):
        return []
    return [f"the schedule is {config.schedule} over the whole run: with another end its learning rates change"]


def _check_unfinished(run: Run) -> None:
    """Raise RunFolderError where a run has come to its end, with an option that goes beyond it.

    One that was killed after its last step still has its last evaluation, its model and its last record to write.
    """
    if not (run.is_over and run.folder.has_ended):
        return
    train, step = run.train, run.progress.step
    if run.pace.progress(step) < 1:
        end, larger = f"{train.patience} evaluations without a better one", f"--patience {2 * (train.patience or 1)}"
    else:
        name, total = next((name, getattr(train, name)) for name in STOPS if getattr(train, name) is not None)
        spent = {"steps": step, "minutes": math.ceil(run.pace.seconds / 0.6) / 100}
        reached = max(total, spent.get(name, 0))
        end, larger = f"{reached:,} {name}", f"--{name} {2 * reached}"
    raise RunFolderError(
        f"{run.folder.path} has already reached its end ({end}); to go on give a larger total, for example {larger}"
    )
