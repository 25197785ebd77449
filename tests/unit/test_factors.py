"""The second factor: what a code opens, once, and what stops those who guess."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pyotp
import pytest

from chalicelib.errors import LeewardError, NotReady, Refused
from chalicelib.incidents.factors import (
    TRIES,
    TRIES_WITHIN,
    FactorDesk,
    enrolled_at,
    revoke,
    use_code,
)
from tests.fakes_people import Office, ScrambledVault


@pytest.fixture
def office() -> Office:
    return Office()


def use(office: Office, code: str, person: str = "ada", request: str = "r1") -> str:
    return use_code(person, code, request=request, desk=office.desk.factors)


def code_of(error: pytest.ExceptionInfo[LeewardError]) -> str:
    return error.value.instance_code


def test_a_code_of_the_device_is_good_once(office: Office) -> None:
    code = office.code("ada")
    assert use(office, code) == "totp"
    with pytest.raises(Refused) as error:
        use(office, code, request="r2")
    assert code_of(error) == "code-used"


def test_the_request_whose_answer_was_lost_may_come_again(office: Office) -> None:
    code = office.code("ada")
    use(office, code)
    assert use(office, code) == "the same request again"


def test_a_code_of_the_step_before_is_good_and_one_older_than_the_last_used_is_not(
    office: Office,
) -> None:
    before, now = office.code("ada", steps_ago=1), office.code("ada")
    assert use(office, now) == "totp"
    with pytest.raises(Refused) as error:
        use(office, before, request="r2")
    assert code_of(error) == "code-used"
    office.clock.sleep(60)
    assert use(office, office.code("ada", steps_ago=1), request="r3") == "totp"


def test_an_old_code_is_wrong(office: Office) -> None:
    with pytest.raises(Refused) as error:
        use(office, office.code("ada", steps_ago=2))
    assert code_of(error) == "wrong-code"


def test_spaces_and_small_letters_do_not_matter(office: Office) -> None:
    code = office.code("ada")
    assert use(office, f" {code[:3]} {code[3:]} ") == "totp"
    spare = office.enrolled["ada"].recovery_codes[0].lower()
    assert use(office, spare, request="r2") == "recovery code"


def test_each_recovery_code_is_good_once(office: Office) -> None:
    codes = office.enrolled["ada"].recovery_codes
    assert len(set(codes)) == 8
    for number, code in enumerate(codes):
        assert use(office, code, request=f"r{number}") == "recovery code"
    with pytest.raises(Refused) as error:
        use(office, codes[0], request="again")
    assert code_of(error) == "wrong-code"


def test_another_persons_code_is_wrong(office: Office) -> None:
    with pytest.raises(Refused) as error:
        use(office, office.code("bo"), person="ada")
    assert code_of(error) == "wrong-code"


def test_a_persons_secret_opens_for_nobody_else(office: Office) -> None:
    stolen = office.state.get("factor#bo", "totp")
    assert stolen
    office.state.replace("factor#ada", "totp", stolen, expected={})
    with pytest.raises(LeewardError) as error:
        use(office, office.code("bo"), person="ada")
    assert code_of(error) == "factor-unreadable"


def test_guessing_is_stopped_even_with_the_right_code(office: Office) -> None:
    for number in range(TRIES):
        with pytest.raises(Refused):
            use(office, f"wrong{number}")
    with pytest.raises(Refused) as error:
        use(office, office.code("ada"))
    assert code_of(error) == "too-many-codes"
    office.clock.sleep(TRIES_WITHIN.total_seconds() + 1)
    assert use(office, office.code("ada")) == "totp"


def test_those_who_guess_at_once_are_counted_one_by_one(office: Office) -> None:
    def guess(number: int) -> str:
        try:
            return use(office, f"{number:06}", request=str(number))
        except LeewardError as error:
            return error.instance_code

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(guess, range(40)))
    assert found.count("wrong-code") == TRIES
    assert found.count("too-many-codes") == 40 - TRIES


def test_one_code_given_by_many_at_once_is_used_once(office: Office) -> None:
    spare = office.enrolled["ada"].recovery_codes[0]

    def give(number: int) -> str:
        try:
            return use(office, spare, request=str(number))
        except LeewardError as error:
            return error.instance_code

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(give, range(4)))
    assert found.count("recovery code") == 1


def test_a_right_code_forgets_the_wrong_ones(office: Office) -> None:
    for _ in range(3):
        for number in range(TRIES - 1):
            with pytest.raises(Refused):
                use(office, f"wrong{number}")
        assert use(office, office.next_code("ada"), request=str(office.clock.at)) == "totp"


def test_nobody_is_enrolled_twice_unless_told_to(office: Office) -> None:
    with pytest.raises(Refused) as error:
        office.enrol("ada")
    assert code_of(error) == "already-enrolled"
    old = office.code("ada")
    office.enrolled["ada"] = office.enrol("ada", replace=True)
    with pytest.raises(Refused):
        use(office, old)
    assert use(office, office.code("ada")) == "totp"


def test_who_is_not_enrolled_or_no_longer_has_no_code(office: Office) -> None:
    with pytest.raises(NotReady) as error:
        use(office, "123456", person="fay")
    assert code_of(error) == "not-enrolled"
    assert revoke("ada", state=office.state)
    assert enrolled_at("ada", state=office.state) is None
    with pytest.raises(NotReady):
        use(office, office.code("ada"))
    assert not revoke("ada", state=office.state)


def test_nothing_that_is_kept_shows_the_secret_or_a_recovery_code(office: Office) -> None:
    enrolment = office.enrolled["ada"]
    kept = str(office.state.get("factor#ada", "totp"))
    assert enrolment.secret not in kept
    for code in enrolment.recovery_codes:
        assert code not in kept
        assert code.replace("-", "") not in kept
    assert enrolment.secret not in repr(enrolment)


def test_the_address_is_what_authenticators_read(office: Office) -> None:
    address = office.enrolled["ada"].address
    parsed = pyotp.parse_uri(address)
    assert parsed.issuer == "Leeward"
    assert parsed.name == "ada"
    assert parsed.at(office.clock.at) == office.code("ada")
    assert isinstance(office.desk.factors, FactorDesk)
    assert timedelta(seconds=parsed.interval) == timedelta(seconds=30)
    assert ScrambledVault().open(ScrambledVault().close(b"x", "ada"), "ada") == b"x"
