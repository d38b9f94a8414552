"""The conformance kit: holds a plugin to the contract and says what to change. Imports torch only when a check runs."""

from mbcompress.testing.kit import check_component, check_plugin
from mbcompress.testing.verdict import Verdict

__all__ = ["Verdict", "check_component", "check_plugin"]
