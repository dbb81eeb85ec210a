"""How the columns are called in which other programs export people, and what is in their cells.

Google Contacts, Outlook (English, French, German), Mailchimp, WordPress, Keycloak, Auth0, Supabase.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

# As they are called, without what is no letter and no digit: `E-mail 1 - Value` is email1value.
EMAIL = [
    *("email", "emailaddress", "useremail", "email1value", "emailprincipal", "mail", "courriel"),
    *("adressedemessagerie", "adresseemail", "emailadresse", "primaryemail", "emails"),
    *("email2value", "email2address", "adressedemessagerie2", "emailadresse2"),
]
NAME = [
    *("name", "fullname", "displayname", "nomcomplet", "nomdaffichage", "anzeigename"),
    *("rawusermetadatafullname", "rawusermetadataname", "usermetadatafullname", "usermetadataname"),
]
FIRST_AND_LAST = [
    *(("firstname", "lastname"), ("givenname", "familyname"), ("prénom", "nom")),
    *(("prenom", "nom"), ("vorname", "nachname"), ("fname", "lname")),
]
FIRST = [first for first, _ in FIRST_AND_LAST]
ACTIVE = ["isactive", "active", "enabled", "actif", "aktiv"]
# As spreadsheets write them in French and in German; pydantic knows the English words.
WORDS = {"vrai": True, "faux": False, "oui": True, "non": False, "wahr": True, "falsch": False}
WORDS |= {"ja": True, "nein": False}


class Columns(NamedTuple):
    """Which columns of a file are what."""

    name: Sequence[str]  # one, or the first and the last name
    email: Sequence[str]  # the first in which there is one
    is_active: str | None
    id: str | None = None

    def __str__(self) -> str:
        email = " or ".join(self.email)
        shown = {"name": " + ".join(self.name), "email": email, "is_active": self.is_active}
        return ", ".join(f"{field}: {column}" for field, column in shown.items() if column)


def columns_of(
    columns: Sequence[str], name: str = "", email: str = "", *, with_ids: bool = False
) -> Columns:
    """Return which columns are what; `name` and `email` say it, `+` between two that are a name.

    Raises ValueError, which says what there is, if that cannot be told.
    """
    plain = {re.sub(r"[\W_]", "", column.lower()): column for column in reversed(columns)}

    def found(*names: str) -> list[str]:
        return [plain[each] for each in names if each in plain]

    names = [each.strip() for each in name.split("+")] if name else found(*NAME)[:1]
    pair = max((found(*pair) for pair in FIRST_AND_LAST), key=len)
    if not names:
        names = pair
    elif not name and pair == found(*FIRST)[:1] and found("name"):
        names = [*pair, *names]  # Vorname and Name
    emails = [email] if email else found(*EMAIL)
    if unknown := [each for each in (*names, *emails) if each not in columns]:
        raise ValueError(f"there is no column {unknown[0]}, but: {', '.join(columns)[:500]}")
    for option, there in (("--name", names), ("--email", emails)):
        if not there:
            raise ValueError(f"say which column it is with {option}: {', '.join(columns)[:500]}")
    ids = found("id") if with_ids else []
    if with_ids and not ids:
        raise ValueError(f"there is no column id, but: {', '.join(columns)[:500]}")
    return Columns(names, emails, next(iter(found(*ACTIVE)), None), next(iter(ids), None))


def values_of(row: Mapping[str, Any], columns: Columns) -> dict[str, Any] | None:
    """Return the fields of a user in a row; None if nobody has an address there."""
    email = next(filter(None, (first_address(row.get(each)) for each in columns.email)), None)
    if not email:
        return None
    parts = [row.get(column) for column in columns.name]
    texts = [part for part in parts if part not in (None, "")]
    name = texts[0] if len(texts) == 1 else " ".join(map(str, texts))
    if isinstance(name, str):
        name = re.sub(r"\s*[\r\n]\s*", " ", name.strip())  # some have it on two lines
    values: dict[str, Any] = {"name": name, "email": email}
    if columns.is_active and (active := row.get(columns.is_active)) not in (None, ""):
        values["is_active"] = WORDS.get(str(active).lower(), active)
    if columns.id:
        values["id"] = row.get(columns.id)
    return values


def first_address(cell: object) -> object:
    """Return the first of several addresses; a cell of Google's has `:::` between them."""
    if isinstance(cell, list):
        cell = next(iter(cell), None)
    if not isinstance(cell, str):
        return cell
    return next(filter(None, re.split(r":::|[;,|\s]", cell)), None)
