"""What can be said about sessions.  Pure: a data set in, answers out."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import date, timedelta
from statistics import median

from pydantic import BaseModel

from analytics_core_v2.data import DataSet, Session, User


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


class Country(BaseModel):
    """What the users of one country did."""

    country: str
    users: int
    sessions: int


class Summary(BaseModel):
    """The size of the data set."""

    users: int
    sessions: int
    first_day: date
    last_day: date
    active_users: int
    """Users with a session in the last ``window_days`` days."""
    window_days: int
    retention: float | None
    """Share of the users of the window before who came again in this one; null if there were none."""
    countries: list[Country]
    """The busiest first."""


class Overview(BaseModel):
    """One period, compared with the period before."""

    first_day: date
    last_day: date
    sessions: Change
    active_users: Change
    median_minutes: Change
    new_users: int
    """Users whose first session ever lies in this period."""
    returning_users: int
    """The other active users."""
    sessions_by_plan: dict[str, int]
    sessions_by_country: dict[str, int]
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
    minutes_per_session: float
    favourite_page: str | None
    last_seen: date | None


def summary(data: DataSet, window: int) -> Summary:
    """How much there is, and how many users were active lately."""
    now = between(data.sessions, *period(data, window))
    first, _ = period(data, window)
    before = _ids(between(data.sessions, first - timedelta(days=window), first - timedelta(days=1)))
    return Summary(
        users=len(data.users),
        sessions=len(data.sessions),
        first_day=data.sessions[0].day,
        last_day=data.last_day,
        active_users=len(_ids(now)),
        window_days=window,
        retention=round(len(before & _ids(now)) / len(before), 3) if before else None,
        countries=_countries(data),
    )


def overview(data: DataSet, days: int) -> Overview:
    """The last ``days`` days beside the ``days`` before."""
    first, last = period(data, days)
    now = between(data.sessions, first, last)
    before = between(data.sessions, first - timedelta(days=days), first - timedelta(days=1))
    plans = {user.id: user.plan for user in data.users}
    countries = {user.id: user.country for user in data.users}
    seen_before = _ids(session for session in data.sessions if session.day < first)
    return Overview(
        first_day=first,
        last_day=last,
        sessions=change(len(now), len(before)),
        active_users=change(len(_ids(now)), len(_ids(before))),
        median_minutes=change(_minutes(now), _minutes(before)),
        new_users=len(_ids(now) - seen_before),
        returning_users=len(_ids(now) & seen_before),
        sessions_by_plan=dict(Counter(plans[session.user] for session in now).most_common()),
        sessions_by_country=dict(Counter(countries[session.user] for session in now).most_common()),
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
    minutes = sum(session.minutes for session in sessions)
    pages = Counter(session.page for session in sessions).most_common(1)
    return UserActivity(
        id=user.id,
        name=user.name,
        country=user.country,
        plan=user.plan,
        joined=user.joined,
        sessions=len(sessions),
        minutes=minutes,
        minutes_per_session=round(minutes / len(sessions), 1) if sessions else 0,
        favourite_page=pages[0][0] if pages else None,
        last_seen=max((session.day for session in sessions), default=None),
    )


def _ids(sessions: Iterable[Session]) -> set[str]:
    return {session.user for session in sessions}


def _countries(data: DataSet) -> list[Country]:
    users = Counter(user.country for user in data.users)
    of = {user.id: user.country for user in data.users}
    sessions = Counter(of[session.user] for session in data.sessions)
    found = [Country(country=name, users=count, sessions=sessions[name]) for name, count in users.items()]
    return sorted(found, key=lambda one: (-one.sessions, one.country))


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
    return [Day(day=day, sessions=len(by_day[day]), users=len(_ids(by_day[day]))) for day in listed]
