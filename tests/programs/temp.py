"""tempfile, shutil, zipfile, gzip: files that come and go."""
import gzip
import os
import shutil
import tempfile
import zipfile


def fill(folder, n):
    for i in range(n):
        with open(os.path.join(folder, f"{i}.bin"), "wb") as f:
            f.write(bytes([i]) * 100)


with tempfile.TemporaryDirectory() as folder:
    fill(folder, 6)
    copy = shutil.copytree(folder, folder + "-copy")
    print(len(os.listdir(copy)))
    archive = shutil.make_archive(os.path.join(folder, "all"), "zip", copy)
    with zipfile.ZipFile(archive) as z:
        print(sorted(z.namelist()), z.testzip())
    shutil.rmtree(copy)
    with gzip.open(os.path.join(folder, "x.gz"), "wb") as f:
        f.write(b"hello" * 1000)
    with gzip.open(os.path.join(folder, "x.gz")) as f:
        print(len(f.read()))
    shutil.move(os.path.join(folder, "0.bin"), os.path.join(folder, "moved"))
    print(os.path.exists(os.path.join(folder, "moved")), shutil.disk_usage(folder).total > 0)
with tempfile.NamedTemporaryFile("w+") as f, tempfile.TemporaryFile() as g, tempfile.SpooledTemporaryFile(10) as h:
    f.write("named"), f.seek(0), g.write(b"anonymous"), h.write(b"rolls over to a file")
    print(f.read(), os.path.basename(f.name).startswith("tmp"), os.fstat(g.fileno()).st_nlink)
