"""SEE INSIDE: what a model computed, by the names that the code gives it. Ids and arrays in, numbers out; no text."""
