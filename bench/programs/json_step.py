"""Nested documents to JSON and back, by the C encoder and by the Python one that an indent asks for. argv[1]: documents. Prints these, the seconds, and the CPU seconds of the process."""
import json
import sys
from time import perf_counter, process_time


def document(n):
    return {"id": n, "name": f"customer {n}", "rate": n / 7, "tags": [f"tag{k}" for k in range(n % 8)],
            "orders": [{"item": k * n % 97, "price": k * 1.5, "open": k % 2 == 0, "note": None} for k in range(12)]}


started = perf_counter()
documents = int(sys.argv[1])
for n in range(documents):
    made = document(n)
    assert json.loads(json.dumps(made)) == made
    if n % 50 == 0:
        assert json.loads(json.dumps(made, indent=1, sort_keys=True)) == made
print(documents, perf_counter() - started, process_time())
