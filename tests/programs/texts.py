"""json and csv through files in the current folder, unicode names and contents."""
import csv
import json

ROWS = [{"id": i, "name": name, "ok": i % 2 == 0} for i, name in enumerate(["plain", "naïve", "日本", "a,b", 'q"q', "line\nbreak", "🐍"])]


def through_json(path):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(ROWS, f, ensure_ascii=False, indent=1)
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def through_csv(path):
    with open(path, "w", newline="", encoding="utf-8") as f:
        out = csv.DictWriter(f, ["id", "name", "ok"])
        out.writeheader()
        out.writerows(ROWS)
    with open(path, newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


assert through_json("данные.json") == ROWS
for row in through_csv("rows.csv"):
    print(row)
