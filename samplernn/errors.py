"""Every error that a user can cause or mend, in one small tree.

    SampleRNNError
    ├── BadInput        a value, a file or a name that breaks a rule       exit code 2
    │   └── BadAudio    one audio file that can't be used (quarantined among good ones)
    ├── StorageError    storage that can't be written or read              exit code 3
    │   └── Damaged     a commit or record that does not verify
    ├── Diverged        a training run that has come to nothing            the trial ends as failed
    └── OutOfMemory     a model and batch that the device can't hold       once more, then the trial ends as failed

A message names the value, the rule and the remedy.
"""

from __future__ import annotations


class SampleRNNError(Exception):
    """Base of every error this project raises on purpose."""


class BadInput(SampleRNNError):
    """A value, file or name breaks a rule; the message says which and what to do."""


class BadAudio(BadInput):
    """One audio file can't be used; among good ones it becomes a quarantine row."""


class StorageError(SampleRNNError):
    """Storage can't be read or written (full, read-only, missing)."""


class Damaged(StorageError):
    """A commit or record does not match its own checksums and must not be used."""


class Diverged(SampleRNNError):
    """The loss is NaN, infinite or no better than a histogram's; training this trial further is pointless."""


class OutOfMemory(SampleRNNError):
    """The device can't hold the model and its batch; the message says what would fit."""
