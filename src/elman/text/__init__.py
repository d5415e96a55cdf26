"""TEXT -> TOKENS: where text comes from, and how it is cut into symbols. Below this package there are only ids."""
