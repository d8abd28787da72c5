"""What goes because of its age."""

from datetime import timedelta


def clock_moved(by: timedelta) -> str:
    """Say why nothing is removed because of its age."""
    hours = abs(by) / timedelta(hours=1)
    much = f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} hours"
    way = "ahead" if by > timedelta() else "back"
    return (
        f"the clock was set {much} {way}: nothing is removed because of its age until it has gone "
        "on steadily for a day; 'alluvium-like gc' removes it at once"
    )
