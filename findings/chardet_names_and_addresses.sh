#!/usr/bin/env bash
# chardet 7.7.0: 2,000 Italian names with their addresses, in Windows-1252, are Bulgarian, as are five.
#
# What has an accent in such a list is its last letter in one first name out of many, and all else is
# ASCII; the addresses make the text longer, and never more Italian. So more rows do not help:
# MacCyrillic, `Niccolт`, each time. The confidence says so (0.04), but is as low where it is right.
# With four Spanish names, five rows are Windows-1250, and 2,000 are ISO-8859-1, by 0.02.
# Seen with Python 3.11. Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet chardet==7.7.0
"$folder/venv/bin/python" - <<'PYTHON'
import chardet

ITALIAN = ["Niccolò Rossi", "Giosuè Ferri", "Noè Bianchi", "Mosè Carducci", "Salomè Rossi"]
SPANISH = ["José Núñez", "María Peña", "Jesús Ibáñez", "Íñigo Martínez"]


def found(head, names, rows):
    lines = [f"{names[n % len(names)]};n{n}@example.com\n" for n in range(rows)]
    told = chardet.detect("".join([head, *lines]).encode("cp1252"))
    print(head.strip(), rows, told)
    return told["encoding"]


assert {found("Nome;E-mail\n", ITALIAN, rows) for rows in (5, 20, 200, 2000)} == {"MacCyrillic"}
assert found("Nombre;Correo\n", SPANISH, 5) == "Windows-1250"
assert found("Nombre;Correo\n", SPANISH, 2000) == "ISO-8859-1"
PYTHON
