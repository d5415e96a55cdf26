"""Layers: pairs of forward and backward. A forward returns a ``backward`` closure and hides no state."""

from elman.layers.stack import GRU, LSTM, RNN

__all__ = ["GRU", "LSTM", "RNN"]
