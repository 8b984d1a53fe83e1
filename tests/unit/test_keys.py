from __future__ import annotations

import pytest

from xuankan.errors import InputError
from xuankan.protocol.keys import LANES, Keys


def test_all_keys_of_a_shard_share_its_hash_tag() -> None:
    keys = Keys("portal.a-1", 3)
    names = [keys.stream(lane) for lane in LANES]
    names += [keys.ticket("id"), keys.result("id"), keys.reply("address"), keys.worker("name")]
    names += [keys.dead, keys.cancellations, keys.workers]
    assert len(set(names)) == len(names)
    assert {name.partition("}")[0] for name in names} == {"{portal.a-1:3"}


def test_deployments_and_shards_do_not_meet() -> None:
    assert len({keys.result("x") for keys in (Keys(), Keys("other"), Keys(shard=1))}) == 3


@pytest.mark.parametrize("namespace", ["", "a b", "a}b", "{a", "a:b", "é", "n" * 65, "a\n"])
def test_a_namespace_that_would_break_the_tag_is_refused(namespace: str) -> None:
    with pytest.raises(InputError, match="namespace"):
        Keys(namespace)


def test_shards_count_from_zero() -> None:
    with pytest.raises(InputError, match="-1"):
        Keys(shard=-1)
