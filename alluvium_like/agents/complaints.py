"""What the words of providers and programs mean: one table for all of them.

Programs pass on what the provider answered, as JSON or in sentences, and seldom say which kind of
failure it is. Texts are matched in lower case; the first row that matches counts.
"""

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

from alluvium_like.agents.events import Failure, Limit
from alluvium_like.clock import time_of_day
from alluvium_like.lifecycle import AgentOutcome

_QUOTA: Final = re.compile(
    r"insufficient_quota|usage_limit_reached|usage_not_included|(?<!not your )usage limit|"
    r"exceeded your current quota|quota (?:has been |was )?exceeded|"
    r"(?:daily|monthly) (?:limit|quota)|credit balance is too low|billing_hard_limit|"
    r"out of (?:credits|extra usage)|"
    r"(?:5-hour|weekly|session) limit|limit reached.*resets|hit your .*limit|quotafailure|"
    r"terminalquotaerror|\bper day\b|exhausted your (?:capacity|\w+ quota)|"
    r"exceed your account's rate limit|billing_error|\b402\b|payment required|"
    r"insufficient (?:balance|credits?|funds)|balance is insufficient|requires more credits|"
    r"spend(?:ing)? limit"
)
_BURST: Final = re.compile(
    r"\b429\b|rate.?limit|too many requests|resource_exhausted|ratelimiterror|retry.?after"
)
_AUTH: Final = re.compile(
    r"\b40[13]\b|unauthori[sz]ed|invalid[ _](?:x-)?api[ _-]?key|incorrect api key|authentication|"
    r"api key (?:not|is not|must)|no api key|not logged in|please (?:run /)?log ?in|"
    r"permission_?denied|missing (?:bearer|api key)|invalid bearer|api_key_invalid|forbidden|"
    r"token (?:has )?expired|set an auth method|invalid auth method|autherror|credentials|"
    r"missing environment variable|must specify the \w+_key"
)
_CONTEXT: Final = re.compile(
    r"context.?(?:length|window)|maximum context|prompt is too long|"
    r"too many tokens(?!.{0,40}(?:wait|per))|"
    r"input (?:is too long|token count)|contextwindowexceeded|request[ _]too[ _]large|"
    r"exceeds the maximum number of tokens|contextoverflow|hit a token limit"
)
_REFUSED: Final = re.compile(
    r"content.?filter|content_policy|safety system|usage polic|flagged|invalid_prompt|"
    r"prohibited_content|response was blocked|refused to (?:answer|go on)|\brefusal\b"
)
_BROKEN_OFF: Final = re.compile(
    r"error decoding response body|stream (?:was )?closed|premature close|incomplete chunked|"
    r"unexpected end of|peer closed connection|\bterminated\b|closed unexpectedly|"
    r"incomplete json|stream ended without|connection to the api was lost"
)
_UNREACHABLE: Final = re.compile(
    r"econnrefused|econnreset|enotfound|etimedout|eai_again|connection (?:error|refused|reset)|"
    r"connect(?:ion)? (?:failed|timed out)|could not connect|network error|fetch failed|"
    r"error sending request|unable to connect|apiconnectionerror|"
    r"name or service not known|socket hang up|connecterror|"
    r"\b50[0234]\b|\b529\b|overloaded|internal server error|bad gateway|service unavailable|"
    r"gateway timeout|server_error|internalservererror|server had an error|"
    r"internal error has occurred|high demand|failed to lookup address|"
    r"empty or (?:malformed|invalid) response"
)
_RESETS_AT: Final = re.compile(r"resets?_?at\"?\s*[:=]\s*\"?(\d{10})(?:\d{3})?\b")
_RESETS_WHEN: Final = re.compile(
    r"(?:retry.?after|resets?[ _]?(?:at|on)|try again (?:at|after))\"?\s*[:=]?\s*\"?"
    r"(\d{4}-\d\d-\d\d[t ]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?(?:z|[+-]\d\d:?\d\d)?|"
    r"[a-z]{3}, \d{1,2} [a-z]{3} \d{4} \d\d:\d\d:\d\d gmt)"
)
_RESETS_IN: Final = re.compile(
    r"(?:resets_in_seconds|retry.?after(?:[-_ ]?(?:ms|seconds))?|retrydelay|try again in|retry in|"
    r"reset after)\"?\s*[:=]?\s*\"?(?:(\d{1,9})\s*d(?:ays?)?)?\s*"
    r"(?:(\d{1,9})\s*h(?:(?:ou)?rs?)?)?\s*"
    r"(?:(\d{1,9})\s*m(?:in(?:ute)?s?)?(?![a-z]))?\s*"
    r"(?:(\d{1,12}(?:\.\d+)?)\s*(ms|s|secs?|seconds?)?\b(?![-:/]\d))?"  # else a date
)
_IN_MS: Final = re.compile(r"retry.?after[-_ ]?ms")
_AT_A_TIME: Final = re.compile(
    r"try again at (?:([a-z]{3})\w* (\d{1,2})(?:st|nd|rd|th)?,? (\d{4}),? )?"
    r"(\d{1,2}):(\d\d) ?([ap]m)"
)
_LONGEST: Final = 10_000
"""What stands behind is no reason any more, and patterns take their time."""
_LAST_MOMENT: Final = 10**15
"""In milliseconds; what is later is no time."""
_FAR_SECONDS: Final = 600.0
"""A limit that ends later is no burst: whoever waits for it holds its place for nothing."""
_JUST_NOW: Final = timedelta(minutes=2)
_CLAUDE_LIMIT: Final = re.compile(r"limit reached\|(\d{10})")


def event_of(
    text: str, status: int | None = None, resets_at: float | None = None
) -> Limit | Failure:
    """Return what a complaint tells: a limit, or a failure with its outcome where that is known.

    `resets_at`: when a limit ends (seconds since 1970) unless the text knows better.
    """
    words = text[:_LONGEST].lower()
    if status is not None:
        words = f"{status} {words}"
    if _QUOTA.search(words):
        return Limit(text, quota=True, resets_at=reset_in(words) or resets_at)
    if _CONTEXT.search(words):  # "request too large" is told as too many tokens a minute, too
        return Failure(text, AgentOutcome.CONTEXT)
    if _BURST.search(words):
        back = reset_in(words) or resets_at
        far = back is not None and back > time_of_day() + _FAR_SECONDS
        return Limit(text, quota=far, resets_at=back)
    for pattern, outcome in (
        (_REFUSED, AgentOutcome.REFUSED),
        (_AUTH, AgentOutcome.AUTH),
        (_BROKEN_OFF, AgentOutcome.CRASHED),
        (_UNREACHABLE, AgentOutcome.UNREACHABLE),
    ):
        if pattern.search(words):
            return Failure(text, outcome)
    return Failure(text)


def reset_in(words: str) -> float | None:
    """Return when a limit ends (seconds since 1970) as far as a text tells, else None."""
    for pattern in (_CLAUDE_LIMIT, _RESETS_AT):
        if found := pattern.search(words):
            return float(found[1])
    if found := _RESETS_WHEN.search(words):
        return moment(found[1].upper())
    if found := _AT_A_TIME.search(words):
        return _moment_of_clock(*found.groups())
    told = (each for each in _RESETS_IN.finditer(words) if any(each.group(1, 2, 3, 4)))
    if (found := next(told, None)) is None:
        return None
    days, hours, minutes, rest, unit = found.groups()
    seconds = float(rest or 0) / (1000 if unit == "ms" or _IN_MS.match(found[0]) else 1)
    whole = (int(days or 0) * 24 + int(hours or 0)) * 60 + int(minutes or 0)
    return time_of_day() + whole * 60 + seconds


def _moment_of_clock(
    month: str | None, day: str, year: str, hour: str, minute: str, half: str
) -> float | None:
    """Return a time that was told as a clock of this machine shows it: the end of that minute."""
    now = datetime.fromtimestamp(time_of_day()).astimezone()
    try:
        clock = datetime.strptime(f"{hour}:{minute} {half}", "%I:%M %p").time().replace(second=59)
        if month:
            date = datetime.strptime(f"{month} {day} {year}", "%b %d %Y").date()
            return datetime.combine(date, clock).astimezone().timestamp()
    except (ValueError, OverflowError):
        return None
    told = datetime.combine(now, clock).astimezone()
    return (told if told > now - _JUST_NOW else told + timedelta(days=1)).timestamp()


def moment(value: object) -> float | None:
    """Return a time as providers write it (seconds or milliseconds since 1970, ISO, HTTP date)."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        seconds = value / (1000 if value > 10**11 else 1) if abs(value) < _LAST_MOMENT else 0
        return seconds or None
    text = str(value).strip()
    if text.isdecimal():
        return moment(int(text))
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            found = read(text)
        except ValueError:
            continue
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    return None
