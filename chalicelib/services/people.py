"""Questions to people, and their answers.

Every way in (the command line, chat, a browser) comes to `answer` with the same event.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from chalicelib.incidents.answer import AnswerDesk, take_answer
from chalicelib.incidents.approval import read_answer
from chalicelib.incidents.factors import FactorDesk
from chalicelib.incidents.question import put_question
from chalicelib.services import build

Event = dict[str, Any]


@cache
def answer_desk() -> AnswerDesk:
    from chalicelib.adapters.step_tokens import StepTokens

    return AnswerDesk(
        state=build.state(),
        records=build.records(),
        clock=build.clock(),
        tokens=StepTokens(build.client("stepfunctions")),
        factors=factor_desk(),
        roles=build.plan().roles,
        contacts=build.plan().contacts,
    )


@cache
def factor_desk() -> FactorDesk:
    from chalicelib.adapters.kms_vault import KmsVault

    vault = KmsVault(build.client("kms"), build.factor_key())
    return FactorDesk(build.state(), vault, build.clock())


def ask(event: Event) -> Event:
    """Record a person's step or an approval that waits, with its token."""
    question = put_question(event, desk=answer_desk())
    return {"found": f"waiting for {question.kind}"}


def answer(event: Event) -> Event:
    """Take a person's answer: {"run_id", "step", "decision", "by", "code", "reason", "key"}."""
    taken = take_answer(read_answer(event), str(event.get("code") or ""), desk=answer_desk())
    return {"outcome": taken.outcome, "found": taken.found, "told": taken.told}
