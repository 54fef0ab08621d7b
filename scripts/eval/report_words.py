"""How the report writes numbers, settings and names."""

import re



def number(value):
    """One digit behind the point, as `aster eval` prints; never -0.0."""
    return f"{0.0 if abs(value) < 0.05 else value:.1f}"


def signed(value):
    text = number(value)
    return text if text.startswith("-") or text == "0.0" else f"+{text}"


def interval(estimate, show=number, unit=""):
    """'70.1 % (55.0 to 82.3)'; a dash for None."""
    if estimate is None:
        return "–"
    value, low, high = estimate
    return f"{show(value)}{unit} ({show(low)} to {show(high)})"


def kept(row):
    return interval(row["retention"] if row else None, unit=" %")


def points(row):
    return interval(row["difference"] if row else None, signed)


def share(part, whole):
    """'75 % (3 of 4)'; a dash of nothing."""
    return f"{100 * part / whole:.0f} % ({part:,} of {whole:,})" if whole else "– (0)"


def ttft(row):
    ratio = row["ttft_ratio"] if row else None
    return "–" if ratio is None else f"{100 * ratio:.1f} %"


def length_title(length):
    return f"{length:,} tokens" if length else "length not stated"


def counted(n, one, many):
    return f"{n:,} {one if n == 1 else many}"


def slug(text):
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def holds_zero(estimate):
    return estimate[1] <= 0 <= estimate[2]
