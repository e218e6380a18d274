"""The ``tofu`` command."""
