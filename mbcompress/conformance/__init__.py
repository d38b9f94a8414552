"""The conformance kit: holds a plugin to the contract and says what to change. Imports torch only when a check runs."""

from mbcompress.conformance.kit import check_component, check_plugin
from mbcompress.conformance.verdict import Verdict

__all__ = ["Verdict", "check_component", "check_plugin"]
