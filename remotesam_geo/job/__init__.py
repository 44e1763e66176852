"""Jobs: the same questions over areas larger than memory or a night."""

from .job import Job

__all__ = ["Job"]
