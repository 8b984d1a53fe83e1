"""Who counts as one caller, by address."""

from __future__ import annotations

import pytest

from xuankan.portal.addresses import household


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("192.0.2.7", "::ffff:192.0.2.7"),
        ("192.0.2.7", "::ffff:c000:207"),
        ("192.0.2.7", "64:ff9b::192.0.2.7"),
        ("192.0.2.7", "2002:c000:207::1"),
        ("192.0.2.7", "::192.0.2.7"),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"),
        ("fe80::1%eth0", "fe80::1%eth1"),
    ],
)
def test_one_caller_however_written(one: str, other: str) -> None:
    assert household(one) == household(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("192.0.2.7", "192.0.2.8"),
        ("::ffff:192.0.2.7", "::ffff:192.0.2.8"),
        ("64:ff9b::192.0.2.7", "64:ff9b::192.0.2.8"),
        ("2001:db8:1:2::1", "2001:db8:1:3::1"),
        ("::1", "2001:db8::1"),
        ("", "192.0.2.7"),
    ],
)
def test_two_callers(one: str, other: str) -> None:
    assert household(one) != household(other)
