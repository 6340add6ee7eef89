"""Ends as argv[1] says."""
import os
import sys


def leave(how):
    if how == "none":
        return
    if how == "text":
        sys.exit("a message")
    if how == "true":
        sys.exit(True)
    if how == "large":
        sys.exit(300)
    if how == "os":
        sys.stdout.flush()
        os._exit(9)
    if how == "raise":
        raise KeyboardInterrupt
    if how == "finally":
        try:
            sys.exit(3)
        finally:
            print("cleaning up")
    if how == "thrown":
        {}["missing"]
    sys.exit(int(how))


print("leaving by", sys.argv[1])
leave(sys.argv[1])
