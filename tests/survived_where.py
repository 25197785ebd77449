"""Which test tries which fault on which scenario; or why the fault makes no sense there.

tests/house/test_all_survived.py holds that every scenario of every plan is here with every fault of
tests/survived.py, and that the tests named tell it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Senseless:
    """Nothing to survive; `why`."""

    why: str


@dataclass(frozen=True)
class Untried:
    """A gap, with what is known `so_far`. No worker's death at a step is one."""

    so_far: str


Cell = str | Senseless | Untried

MATRIX = "test_matrix::test_a_death_at_every_step_changes_nothing_of_the_end"
GOES_HOME = "test_failback::test_everything_goes_home_in_its_window_though_workers_die"
ARTIST_HOME = "test_artist_failback::test_everything_goes_home_though_workers_die_at_every_step"

NOT_STARTED = Senseless("a person starts it: nothing that flaps can")
NOT_ASKED = Senseless("no step of it asks a person")
STAYS = Senseless("it loses no region")

END = Untried("the same function ends every run: it is struck in other scenarios")
AGAIN = Untried("its start comes in by the function that is told twice in other scenarios")
AT_ONCE = Untried("the same fence is tried in other scenarios")
NO_ANSWER = Untried("test_people tries it on scenarios of its own")

NEXUS: Mapping[str, Mapping[str, Cell]] = {
    "database-corruption": {
        "workers killed": "test_faults::test_every_step_survives_deaths_of_its_worker",
        "ends killed": END,
        "alarm again": "test_faults::test_alarms_that_come_twice_start_one_run",
        "two at once": "test_refusals::"
        "test_a_second_run_is_refused_while_the_first_holds_the_component",
        "no answer": NOT_ASKED,
        "flapping": "test_faults::test_alarms_that_come_twice_start_one_run",
        "region lost": STAYS,
    },
    "regional-outage": {
        "workers killed": GOES_HOME,
        "ends killed": END,
        "alarm again": AGAIN,
        "two at once": AT_ONCE,
        "no answer": NOT_ASKED,
        "flapping": "test_outage_noticed::test_one_bad_probe_or_a_flapping_one_starts_nothing",
        "region lost": "test_regional_outage::"
        "test_it_is_noticed_and_recovered_without_the_lost_region",
    },
    "data-center-loss": {
        "workers killed": MATRIX,
        "ends killed": MATRIX,
        "alarm again": MATRIX,
        "two at once": "test_great_loss::test_no_site_is_made_twice_at_once",
        "no answer": NO_ANSWER,
        "flapping": NOT_STARTED,
        "region lost": "test_data_center_loss::"
        "test_the_loss_itself_is_recovered_within_the_promises",
    },
    "ransomware": {
        "workers killed": MATRIX,
        "ends killed": MATRIX,
        "alarm again": MATRIX,
        "two at once": MATRIX,
        "no answer": NO_ANSWER,
        "flapping": NOT_STARTED,
        "region lost": STAYS,
    },
    "accidental-deletion": {
        "workers killed": MATRIX,
        "ends killed": MATRIX,
        "alarm again": MATRIX,
        "two at once": MATRIX,
        "no answer": NO_ANSWER,
        "flapping": NOT_STARTED,
        "region lost": STAYS,
    },
    "failback": {
        "workers killed": GOES_HOME,
        "ends killed": END,
        "alarm again": AGAIN,
        "two at once": AT_ONCE,
        "no answer": NO_ANSWER,
        "flapping": "test_failback::"
        "test_a_region_that_flaps_while_it_is_looked_at_is_not_gone_back_to",
        "region lost": Senseless("it begins when the region is back; a lost one is refused"),
    },
}
SITE_LOST = Untried("its stage loses the site's services in every test of it")
ARTIST: Mapping[str, Mapping[str, Cell]] = {
    "database-corruption": {
        "workers killed": MATRIX,
        "ends killed": MATRIX,
        "alarm again": MATRIX,
        "two at once": MATRIX,
        "no answer": NOT_ASKED,
        "flapping": NOT_STARTED,
        "region lost": STAYS,
    },
    "server-failure": {
        "workers killed": "test_artist_faults::"
        "test_a_server_is_replaced_though_workers_die_and_copies_are_damaged",
        "ends killed": END,
        "alarm again": AGAIN,
        "two at once": "test_artist_drill::"
        "test_no_second_server_is_made_while_another_run_makes_one",
        "no answer": NOT_ASKED,
        "flapping": NOT_STARTED,
        "region lost": STAYS,
    },
    "infrastructure-failure": {
        "workers killed": MATRIX,
        "ends killed": MATRIX,
        "alarm again": MATRIX,
        "two at once": MATRIX,
        "no answer": NO_ANSWER,
        "flapping": NOT_STARTED,
        "region lost": SITE_LOST,
    },
    "data-center-disaster": {
        "workers killed": ARTIST_HOME,
        "ends killed": END,
        "alarm again": AGAIN,
        "two at once": AT_ONCE,
        "no answer": NOT_ASKED,
        "flapping": NOT_STARTED,
        "region lost": SITE_LOST,
    },
    "failback": {
        "workers killed": ARTIST_HOME,
        "ends killed": END,
        "alarm again": AGAIN,
        "two at once": AT_ONCE,
        "no answer": NO_ANSWER,
        "flapping": Senseless("it looks by the step that Nexus's way back has"),
        "region lost": Senseless("it begins when the site is back"),
    },
}
WHERE = {"nexus-studio": NEXUS, "artist-tech": ARTIST}
