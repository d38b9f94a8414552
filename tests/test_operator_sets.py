"""Operators that plugins offer, as the host takes them."""

import pytest
from plugin_packages import Install

from mbcompress.registry.discovery import discover

OFFERS = """
from mbcompress import OperatorSet, hookimpl


class Mine(OperatorSet):
    name = {name!r}
    operators = frozenset({{{operator!r}}})
    {register}


@hookimpl
def mbcompress_operators():
    return [Mine]
"""
REGISTER = "def register(self): pass"


@pytest.mark.parametrize(
    ("name", "operator", "register", "problem"),
    [
        ("mine", "mine.op.default", REGISTER, None),
        ("mine", "other.op.default", REGISTER, "operator set Mine must have 'operators' that begin with its 'name'"),
        ("aten", "aten.from_file.default", REGISTER, "operator set 'aten' is already provided by torch"),
        ("mbcompress", "mbcompress.x.default", REGISTER, "operator set 'mbcompress' is already provided by plugin"),
        ("mine", "mine.op.default", "", "operator set Mine does not implement 'register'"),
    ],
)
def test_what_is_taken(name: str, operator: str, register: str, problem: str | None, install: Install) -> None:
    install("mb-mine", OFFERS.format(name=name, operator=operator, register=register))
    registry = discover()
    if problem is None:
        assert registry.operators["mine"][1].status == "in Python"
        assert registry.operators["mine"][1].library is None
        assert not registry.broken
    else:
        (broken,) = registry.broken
        assert problem in broken.reason
