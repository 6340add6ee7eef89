"""pathlib, os.walk, glob, scandir over a tree that it makes itself."""
import glob
import os
from pathlib import Path


def build(top):
    for i in range(4):
        folder = top / f"d{i}" / "inner"
        folder.mkdir(parents=True)
        for k in range(5):
            (folder / f"f{k}.txt").write_text("x" * (i * 10 + k))


def sizes(top):
    for folder, folders, files in os.walk(top):
        folders.sort()
        yield os.path.relpath(folder, top), sum(os.path.getsize(os.path.join(folder, f)) for f in files)


top = Path("tree")
build(top)
print(dict(sizes(top)))
print(sorted(glob.glob("tree/*/inner/f[12].txt")))
print(sorted(str(p) for p in top.rglob("f3*")))
print([p.name for p in top.iterdir()] == os.listdir(top), [e.name for e in os.scandir(top)] == os.listdir(top))
print(sorted((e.name, e.is_dir(), e.stat().st_nlink) for e in os.scandir(top)))
