"""Models: layers put together, with parameters of their own."""

from elman.models.language_model import LanguageModel

__all__ = ["LanguageModel"]
