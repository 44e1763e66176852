"""What can go wrong, as types: one base error with few leaves, and one warning.

Every message names the value that was received and what to do about it.
"""

__all__ = [
    "InputError",
    "JobError",
    "MissingExtraError",
    "ModelError",
    "ReadError",
    "RemoteSAMError",
    "RemoteSAMWarning",
    "SearchError",
    "WriteError",
]


class RemoteSAMError(Exception):
    """Base of every error raised on purpose by this package."""


class InputError(RemoteSAMError, ValueError):
    """An argument, a prompt, a scene or an area that cannot be used as given."""


class ModelError(RemoteSAMError):
    """Weights or a configuration that are missing, damaged, unsafe or do not fit the network."""


class SearchError(RemoteSAMError):
    """A catalogue that cannot be found, reached or understood."""


class ReadError(RemoteSAMError, OSError):
    """Pixels that could not be read. They never become no data."""


class WriteError(RemoteSAMError, OSError):
    """A file that could not be written. What was there before is kept."""


class JobError(RemoteSAMError):
    """A job folder that is locked, damaged or made from another plan."""


class MissingExtraError(RemoteSAMError, ImportError):
    """An optional dependency that is not installed; the message names the extra."""


class RemoteSAMWarning(UserWarning):
    """Something was done knowingly that the user may want otherwise."""
