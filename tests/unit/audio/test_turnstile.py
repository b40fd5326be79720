from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from asr_service.audio.turnstile import Turnstile


def test_the_last_place_is_kept_for_an_interactive_source() -> None:
    turnstile: Turnstile[str] = Turnstile(3)

    assert turnstile.arrive("b1", interactive=False) == ["b1"]
    assert turnstile.arrive("b2", interactive=False) == ["b2"]
    assert turnstile.arrive("b3", interactive=False) == []
    assert turnstile.arrive("i1", interactive=True) == ["i1"]


def test_the_only_place_goes_to_whoever_comes() -> None:
    assert Turnstile[str](1).arrive("b1", interactive=False) == ["b1"]


def test_interactive_goes_before_batch_and_each_in_its_order() -> None:
    turnstile: Turnstile[str] = Turnstile(1)
    for name, interactive in [("x", True), ("b1", False), ("b2", False), ("i1", True), ("i2", True)]:
        turnstile.arrive(name, interactive=interactive)
    served = [turnstile.leave(interactive=True) for _ in range(3)] + [turnstile.leave(interactive=False)]

    assert served == [["i1"], ["i2"], ["b1"], ["b2"]]


class Against(RuleBasedStateMachine):
    """The turnstile against plain lists."""

    waiting: Bundle[int] = Bundle("waiting")

    def __init__(self) -> None:
        super().__init__()
        self.turnstile: Turnstile[int] = Turnstile(3)
        self.n_tickets = 0
        self.queues: dict[bool, list[int]] = {True: [], False: []}
        self.inside: dict[bool, list[int]] = {True: [], False: []}

    def note(self, admitted: list[int]) -> None:
        for ticket in admitted:
            kind = ticket in self.queues[True]
            assert self.queues[kind][0] == ticket
            assert kind or not self.queues[True]
            self.inside[kind].append(self.queues[kind].pop(0))

    @rule(target=waiting, interactive=st.booleans())
    def arrive(self, interactive: bool) -> int:
        ticket = self.n_tickets
        self.n_tickets += 1
        self.queues[interactive].append(ticket)
        self.note(self.turnstile.arrive(ticket, interactive=interactive))
        return ticket

    @rule(interactive=st.booleans())
    def leave(self, interactive: bool) -> None:
        if self.inside[interactive]:
            self.inside[interactive].pop()
            self.note(self.turnstile.leave(interactive=interactive))

    @rule(ticket=consumes(waiting))
    def withdraw(self, ticket: int) -> None:
        for interactive, queue in self.queues.items():
            if ticket in queue:
                queue.remove(ticket)
                self.turnstile.withdraw(ticket, interactive=interactive)

    @invariant()
    def no_place_is_wasted_or_given_twice(self) -> None:
        n_inside = len(self.inside[True]) + len(self.inside[False])
        assert self.turnstile.held == n_inside <= 3
        assert len(self.inside[False]) <= 2
        assert self.turnstile.waiting == len(self.queues[True]) + len(self.queues[False])
        assert n_inside == 3 or not self.queues[True]
        assert n_inside == 3 or len(self.inside[False]) == 2 or not self.queues[False]


TestAgainst = Against.TestCase
