"""How far a job is, for those who may know: ``from django_live.features.progress import Progress``."""

from __future__ import annotations

from .job import Progress
from .records import Job, areserve, find, jobs_of, reserve
from .steps import Cancelled, Step
from .topics import JobsTopic, ProgressTopic, cancel

__all__ = [
    "Cancelled",
    "Job",
    "JobsTopic",
    "Progress",
    "ProgressTopic",
    "Step",
    "areserve",
    "cancel",
    "find",
    "jobs_of",
    "reserve",
]
