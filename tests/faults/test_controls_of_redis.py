"""The negative controls of what happens to Redis (see `controls`)."""

from __future__ import annotations

import pytest

from tests.faults import scenarios
from tests.faults.conftest import NewSite
from tests.faults.controls import Control, check
from tests.faults.site import BAD

pytestmark = pytest.mark.timeout(300)

CONTROLS = [
    Control("gaps", scenarios.REDIS_DOWN, 1),
    Control("epochs", scenarios.REDIS_FORGETS, 1),
    Control("epochs", scenarios.OLD_DUMP, 1.5),
    Control("gaps", scenarios.CLIENTS_KILLED, 2),
    Control("epochs", scenarios.FLUSHED, 1),
    Control("gaps", scenarios.BAD_LAYER, 1.5, layer=BAD),
]


@pytest.mark.parametrize("control", CONTROLS, ids=str)
def test_without_its_mechanism_the_promise_is_broken(control: Control, new_site: NewSite) -> None:
    check(control, new_site)
