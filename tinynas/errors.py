"""What a user can get wrong, as exceptions whose message is one sentence to act on.

TinynasError            exit code 1: the job could not be done
├── UsageError          exit code 2: the command line or the configuration is wrong
├── InfeasibleError     no subnet can fit the budget
├── DataError           the data set cannot be used
└── ModelFileError      a model file cannot be read
"""


class TinynasError(Exception):
    """The job could not be done; the message says why and what to do."""

    exit_code = 1


class UsageError(TinynasError):
    """A flag or a configuration file asks for something that does not exist or is not allowed."""

    exit_code = 2


class InfeasibleError(TinynasError):
    """No subnet of the space fits the budget; the message names what would make it possible."""


class DataError(TinynasError):
    """The data given cannot be trained on."""


class ModelFileError(TinynasError):
    """A file is not a model that can be read."""
