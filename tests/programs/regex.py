"""Regular expressions with callbacks, string formatting, templates."""
import re
import string
import textwrap

TEXT = "On 2024-02-29 and 2023-12-01 we shipped 12 bolts, 7 nuts and 130 washers."


def swap(match):
    year, month, day = match.groups()
    return f"{day}.{month}.{year}"


def tokens(text):
    for match in re.finditer(r"(?P<number>\d+)|(?P<word>[A-Za-z]+)|(?P<other>[^\sA-Za-z\d])", text):
        yield match.lastgroup, match.group()


print(re.sub(r"(\d{4})-(\d\d)-(\d\d)", swap, TEXT))
print(list(tokens(TEXT))[:12])
print(string.Template("$who owes $$$sum").substitute(who="Ann", sum=3), f"{3.14159:>10.2f}|{255:#x}|{'é':^5}")
print(textwrap.fill(TEXT, 30))
