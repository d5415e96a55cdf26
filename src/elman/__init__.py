"""elman: recurrent neural network language models on your own text, from scratch.

The names below are loaded on first use (PEP 562), so that ``import elman`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "ModelConfig": "elman.config",
    "TrainConfig": "elman.config",
    "SampleConfig": "elman.config",
    "ElmanError": "elman.errors",
    "RNN": "elman.layers",
    "GRU": "elman.layers",
    "LSTM": "elman.layers",
    "LanguageModel": "elman.models",
    "open_engine": "elman.engines",
    "TextModel": "elman.text_model",
    "Score": "elman.text_model",
    "load": "elman.text_model",
    "train": "elman.workflows.train",
    "TrainingRun": "elman.workflows.train",
}
_MODULES = ("optimizers", "schedules", "sampling", "testing")

__all__ = [*_HOME, *_MODULES, "__version__"]

if TYPE_CHECKING:
    import elman.optimizers as optimizers
    import elman.sampling as sampling
    import elman.schedules as schedules
    import elman.testing as testing
    from elman.config import ModelConfig, SampleConfig, TrainConfig
    from elman.engines import open_engine
    from elman.errors import ElmanError
    from elman.layers import GRU, LSTM, RNN
    from elman.models import LanguageModel
    from elman.text_model import Score, TextModel, load
    from elman.workflows.train import TrainingRun, train


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    if name in _MODULES:
        return import_module(f"elman.{name}")
    raise AttributeError(f"module 'elman' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
