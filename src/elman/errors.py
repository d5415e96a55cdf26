"""What elman raises. A message says what is wrong, where, and what to do; the command line prints it as one line."""


class ElmanError(Exception):
    """Any error that elman explains to its user; the command line ends with exit status 2."""


class InputError(ElmanError, ValueError):
    """A text, an id, a shape or an option that cannot be used."""


class ModelFileError(ElmanError):
    """A file that is not a whole, unaltered elman model or checkpoint."""


class LaterFormatError(ModelFileError):
    """A model file that a later elman wrote."""


class RunFolderError(ElmanError):
    """A run folder that cannot be created, written or resumed."""


class NonFiniteError(ElmanError, ArithmeticError):
    """A loss, gradient or parameter that is NaN or infinite; training stops before it is used."""


class KernelError(ElmanError, RuntimeError):
    """A kernel that is not available here."""


def did_you_mean(word: str, known: list[str] | tuple[str, ...]) -> str:
    """' Did you mean …?' with the nearest known word, or '' where none is near."""
    import difflib

    spelt = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), spelt, n=1, cutoff=0.6)
    return f" Did you mean {spelt[near[0]]}?" if near else ""
