"""Dates, time zones and locales; prints the time, so every run prints something else."""
import calendar
import datetime
import locale
import time
import zoneinfo


def describe(moment):
    return moment.isoformat(), moment.strftime("%A %d %B %Y"), moment.utcoffset()


locale.setlocale(locale.LC_ALL, "")
print(describe(datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.timezone.utc)))
try:
    print(describe(datetime.datetime(2024, 7, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Paris"))))
except zoneinfo.ZoneInfoNotFoundError as e:
    print("no zone data:", e)
print(calendar.month(2024, 2))
for _ in range(20):
    before = time.monotonic_ns()
    time.sleep(0.001)
    print(datetime.datetime.now().isoformat(), time.monotonic_ns() - before, time.thread_time_ns(), time.ctime())
print(time.tzname, locale.getlocale(), time.get_clock_info("monotonic"))
