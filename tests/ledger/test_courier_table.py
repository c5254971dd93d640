"""When the courier sends, waits and gives up: the table alone."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.courier import (
    ROWS,
    TABLE,
    Do,
    Event,
    Known,
    NoSuchRow,
    Pace,
    Range,
    Row,
    State,
    back_off_s,
    long_silent,
    missing,
    most_entries,
    newest,
    obeyed_s,
    oldest,
    spread_s,
    step,
    tabulate,
)

PACE = Pace()
SENT = (State.GREETING, State.TELLING, State.PROBING, State.SENDING)
ON_ITS_WAY = (*SENT, State.ASKING, State.FETCHING)
WAITING = (State.RESTING, State.BACKING_OFF, State.SHUT_OUT, State.PAUSING)
ANSWERS = (
    *(Event.RECEIPT, Event.BUSY, Event.NO_ANSWER, Event.NOT_THE_CITY, Event.STRANGER, Event.NOT_UNDERSTOOD),
    *(Event.TOO_LARGE, Event.UNREADABLE, Event.OTHER_KEY),
)
SENDS = {Do.GREET, Do.TELL, Do.SEND_NEWEST, Do.SEND_OLDEST, Do.ASK, Do.FETCH}
WAITS = {Do.REST, Do.BACK_OFF, Do.WAIT_AS_TOLD, Do.STAY_AWAY, Do.PAUSE}


def test_every_row_can_be_reached_from_rest() -> None:
    reached, open_states = set[str](), {State.RESTING}
    while fresh := [row for row in ROWS if row.state in open_states and row.name not in reached]:
        reached |= {row.name for row in fresh}
        open_states |= {row.target for row in fresh}
    assert reached == {row.name for row in ROWS}
    assert open_states == set(State)


def test_every_row_has_a_name_of_its_own() -> None:
    assert [name for name, count in Counter(row.name for row in ROWS).items() if count > 1] == []


@pytest.mark.parametrize("state", SENT)
@pytest.mark.parametrize("answer", ANSWERS)
def test_whatever_comes_back_there_is_a_row_for_it(state: State, answer: Event) -> None:
    assert step(state, answer).state is state


@pytest.mark.parametrize("state", WAITING)
def test_every_wait_ends(state: State) -> None:
    assert step(state, Event.DUE).does


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_either_sends_waits_or_looks_once(row: Row) -> None:
    assert len([do for do in row.does if do in SENDS | WAITS or do is Do.LOOK]) == 1
    assert (row.target in ON_ITS_WAY) == any(do in SENDS for do in row.does)
    assert (row.target in WAITING) == any(do in WAITS for do in row.does)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_nothing_is_taken_for_heard_before_its_receipt_lies_on_the_disk(row: Row) -> None:
    assert (Do.LAY in row.does) == (row.event is Event.RECEIPT)
    if Do.SUCCEED in row.does and row.event is Event.RECEIPT:
        assert row.does.index(Do.LAY) < row.does.index(Do.SUCCEED)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_contact_begins_with_a_heartbeat(row: Row) -> None:
    if row.state in {State.RESTING, State.BACKING_OFF, State.SHUT_OUT}:
        assert row.does == (Do.GREET,)


def test_a_failure_is_never_followed_by_sending_at_once() -> None:
    failures = {Event.BUSY, Event.NO_ANSWER, Event.NOT_THE_CITY, Event.STRANGER}
    assert all(row.target in {State.BACKING_OFF, State.SHUT_OUT} for row in ROWS if row.event in failures)
    assert all(row.target is State.RESTING for row in ROWS if row.event is Event.NOT_GIVEN)
    assert all(row.does[0] is Do.OVERLOOK for row in ROWS if row.event is Event.NO_GOOD)


def test_the_other_key_is_tried_with_the_same_message_and_only_where_it_was_refused() -> None:
    for row in ROWS:
        assert (Do.TURN_KEY in row.does) == (row.event is Event.OTHER_KEY)
        if row.event is Event.OTHER_KEY:
            assert (row.target, row.does[0], len(row.does)) == (row.state, Do.TURN_KEY, 2)


@pytest.mark.parametrize(("draw", "wait_s"), [(0, 1800), (0.5, 3600), (1, 5400)])
def test_packages_are_asked_for_about_once_an_hour_and_never_by_all_at_once(draw: float, wait_s: float) -> None:
    assert spread_s(PACE.ask_s, draw) == wait_s


def test_two_rows_for_the_same_event_are_refused() -> None:
    with pytest.raises(ValueError, match="share"):
        tabulate([*ROWS, Row("another", State.RESTING, Event.DUE, State.RESTING, ())])


def test_an_event_without_a_row_is_our_fault() -> None:
    with pytest.raises(NoSuchRow, match="no row for 'the city has signed for it' while resting"):
        step(State.RESTING, Event.RECEIPT)
    assert (State.RESTING, Event.RECEIPT) not in TABLE


# ── how long ──


@pytest.mark.parametrize(("failures", "longest"), [(0, 5), (1, 5), (2, 10), (3, 20), (6, 160), (7, 300), (10_000, 300)])
def test_waits_double_up_to_five_minutes_and_are_drawn_from_zero(failures: int, longest: float) -> None:
    assert [back_off_s(failures, draw, PACE) for draw in (0, 0.5, 1)] == [0, longest / 2, longest]


@given(told=st.none() | st.floats(-1e9, 1e9), failures=st.integers(0, 100), draw=st.floats(0, 1))
def test_the_city_is_never_asked_before_the_time_it_named(told: float | None, failures: int, draw: float) -> None:
    wait = obeyed_s(told, failures, draw, PACE)
    assert min(max(told or 0, 0), PACE.obey_s) <= wait <= PACE.obey_s + PACE.most_s


@pytest.mark.parametrize(("contact_h", "silent"), [(0, True), (11.9, False), (12.1, True)])
def test_half_a_day_without_the_city_is_a_long_silence(contact_h: float, silent: bool) -> None:
    now_ms = 1_770_000_000_000
    assert long_silent(int(now_ms - contact_h * 3_600_000) if contact_h else 0, now_ms, PACE) is silent


# ── how much ──


def known(next_seq: int, *holes: tuple[int, int], most: int = 0) -> Known:
    return Known(next_seq, bytes(32), holes, 0, most)


@pytest.mark.parametrize(
    ("what", "head", "batch"),
    [
        (known(1), 0, None),
        (known(1), 5, Range(1, 5)),
        (known(6), 5, None),
        (known(9), 5, None),  # the city has more than there is
        (known(1), 5000, Range(1, 200)),
        (known(1, (1, 100), (150, 180)), 5000, Range(1, 100)),
        (known(1, (1, 900)), 1000, Range(1, 200)),
        (known(10, (20, 30)), 1000, Range(10, 209)),  # a hole further up says nothing about here
        (known(1, most=7), 5000, Range(1, 7)),
    ],
)
def test_the_oldest_go_first_and_only_as_far_as_the_city_lacks_them(what: Known, head: int, batch: Range | None) -> None:
    assert oldest(what, head, PACE.batch) == batch


@pytest.mark.parametrize(
    ("what", "head", "batch"),
    [
        (known(1), 200, None),  # one batch tells as much
        (known(1), 201, Range(182, 201)),
        (known(801), 1000, None),
        (known(1, (1, 980)), 1000, None),  # it was sent already
        (known(1, most=7), 1000, Range(994, 1000)),
    ],
)
def test_the_canary_is_a_few_of_the_newest(what: Known, head: int, batch: Range | None) -> None:
    assert newest(what, head, PACE) == batch


@pytest.mark.parametrize(
    ("what", "head", "lacks"), [(known(1), 5, 5), (known(6), 5, 0), (known(9), 5, 0), (known(2, (2, 3), (5, 9)), 7, 5)]
)
def test_what_the_city_lacks_is_counted(what: Known, head: int, lacks: int) -> None:
    assert missing(what, head) == lacks


@given(head=st.integers(0, 300), have=st.sets(st.integers(1, 300)), wished=st.integers(1, 40), most=st.integers(0, 40))
def test_batch_by_batch_everything_arrives_and_nothing_twice(head: int, have: set[int], wished: int, most: int) -> None:
    have = {seq for seq in have if seq <= head}
    for _ in range(2 * head + 2):
        what = told(have, most)
        batch = oldest(what, head, wished)
        if batch is None:
            break
        assert 1 <= batch.count <= most_entries(what, wished)
        sent = set(range(batch.first, batch.last + 1))
        assert not sent & have
        have |= sent
    assert have == set(range(1, head + 1))


def told(have: set[int], most: int) -> Known:
    """What the city says: its watermark and the holes below the highest it has."""
    lacking = [seq for seq in range(1, max(have, default=0) + 1) if seq not in have]
    next_seq = lacking[0] if lacking else max(have, default=0) + 1
    holes: list[tuple[int, int]] = []
    for seq in lacking:
        if holes and holes[-1][1] == seq - 1:
            holes[-1] = (holes[-1][0], seq)
        else:
            holes.append((seq, seq))
    return Known(next_seq, bytes(32), tuple(holes), 0, most)


def test_a_batch_has_at_least_one_entry() -> None:
    assert most_entries(known(1, most=1), 0) == 1
