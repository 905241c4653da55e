"""The Reactive Agent Protocol as data.

``files()`` is the folder that holds ``schema/``, ``vectors/``, ``openapi/``, ``text/`` (the book's source) and
``requirements.toml``.
"""

from importlib import resources


def files():
    """The folder of the specification's files, as :mod:`importlib.resources` gives it."""
    return resources.files(__name__)
