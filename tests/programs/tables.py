"""pandas: a CSV file read, grouped, joined, written again."""
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
import pandas


def made(n):
    with open("sales.csv", "w") as f:
        f.write("day,shop,what,price\n")
        for i in range(n):
            f.write(f"2024-{i % 12 + 1:02}-{i % 28 + 1:02},shop {i % 7},{'bolt nut washer'.split()[i % 3]},{i % 100 / 4}\n")
    return pandas.read_csv("sales.csv", parse_dates=["day"])


def asked(t):
    print(t.dtypes.astype(str).to_dict()["price"], len(t), t.price.describe().round(3).to_dict())
    by = t.groupby(["shop", "what"]).price.sum().unstack()
    print(by.loc["shop 3"].round(2).to_dict(), t.day.dt.month.value_counts().sort_index().tolist()[:3])
    both = t.merge(by.reset_index()[["shop", "bolt"]], on="shop").sort_values(["price", "day"], kind="stable")
    return both.iloc[-1].to_dict()


t = made(3000)
print(asked(t))
t.to_csv("again.csv", index=False)
t.to_pickle("again.pickle")
print(pandas.read_csv("again.csv", parse_dates=["day"]).equals(pandas.read_pickle("again.pickle")))
