"""What can be said about sessions.  Pure: a data set in, answers out."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import date, timedelta
from statistics import median

from pydantic import BaseModel

from .data import DataSet, Session, User


class Change(BaseModel):
    """A number, and the same number one period earlier."""

    value: float
    previous: float
    percent: float | None
    """Growth over the previous period; null if there was nothing."""


class Page(BaseModel):
    """How often visits began on a page."""

    page: str
    sessions: int
    share: float
    """0 to 1."""


class Day(BaseModel):
    """One day."""

    day: date
    sessions: int
    users: int


class Summary(BaseModel):
    """The size of the data set."""

    users: int
    sessions: int
    first_day: date
    last_day: date
    active_users: int
    """Users with a session in the last ``window_days`` days."""
    window_days: int


class Overview(BaseModel):
    """One period, compared with the period before."""

    first_day: date
    last_day: date
    sessions: Change
    active_users: Change
    median_minutes: Change
    sessions_by_plan: dict[str, int]
    top_pages: list[Page]
    days: list[Day]


class UserActivity(BaseModel):
    """One user and what that user did."""

    id: str
    name: str
    country: str
    plan: str
    joined: date
    sessions: int
    minutes: int
    last_seen: date | None


def summary(data: DataSet, window: int) -> Summary:
    """How much there is, and how many users were active lately."""
    return Summary(
        users=len(data.users),
        sessions=len(data.sessions),
        first_day=data.sessions[0].day,
        last_day=data.last_day,
        active_users=_users(between(data.sessions, *period(data, window))),
        window_days=window,
    )


def overview(data: DataSet, days: int) -> Overview:
    """The last ``days`` days beside the ``days`` before."""
    first, last = period(data, days)
    now = between(data.sessions, first, last)
    before = between(data.sessions, first - timedelta(days=days), first - timedelta(days=1))
    plans = {user.id: user.plan for user in data.users}
    return Overview(
        first_day=first,
        last_day=last,
        sessions=change(len(now), len(before)),
        active_users=change(_users(now), _users(before)),
        median_minutes=change(_minutes(now), _minutes(before)),
        sessions_by_plan=dict(Counter(plans[session.user] for session in now).most_common()),
        top_pages=_pages(now),
        days=_days(now, first, days),
    )


def activity(data: DataSet, users: Iterable[User]) -> list[UserActivity]:
    """What each of ``users`` did, the busiest first."""
    sessions: dict[str, list[Session]] = defaultdict(list)
    for session in data.sessions:
        sessions[session.user].append(session)
    found = [_activity(user, sessions[user.id]) for user in users]
    return sorted(found, key=lambda one: (-one.sessions, one.id))


def period(data: DataSet, days: int) -> tuple[date, date]:
    """The first and the last of the last ``days`` days."""
    return data.last_day - timedelta(days=days - 1), data.last_day


def between(sessions: Iterable[Session], first: date, last: date) -> list[Session]:
    """The sessions of the days from ``first`` to ``last``, both included."""
    return [session for session in sessions if first <= session.day <= last]


def change(value: float, previous: float) -> Change:
    """Growth in per cent, to one decimal."""
    percent = round(100 * (value - previous) / previous, 1) if previous else None
    return Change(value=value, previous=previous, percent=percent)


def _activity(user: User, sessions: list[Session]) -> UserActivity:
    return UserActivity(
        id=user.id,
        name=user.name,
        country=user.country,
        plan=user.plan,
        joined=user.joined,
        sessions=len(sessions),
        minutes=sum(session.minutes for session in sessions),
        last_seen=max((session.day for session in sessions), default=None),
    )


def _users(sessions: Iterable[Session]) -> int:
    return len({session.user for session in sessions})


def _minutes(sessions: list[Session]) -> float:
    return median(session.minutes for session in sessions) if sessions else 0


def _pages(sessions: list[Session]) -> list[Page]:
    counted = Counter(session.page for session in sessions).most_common()
    return [Page(page=page, sessions=count, share=round(count / len(sessions), 3)) for page, count in counted]


def _days(sessions: list[Session], first: date, days: int) -> list[Day]:
    by_day: dict[date, list[Session]] = defaultdict(list)
    for session in sessions:
        by_day[session.day].append(session)
    listed = [first + timedelta(days=offset) for offset in range(days)]
    return [Day(day=day, sessions=len(by_day[day]), users=_users(by_day[day])) for day in listed]
