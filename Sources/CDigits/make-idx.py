"""Writes the two IDX files of this folder from scikit-learn's copy of the data.

    python make-idx.py scikit_learn-*.whl        (pip download --no-deps scikit-learn)
"""
import csv
import gzip
import io
import struct
import sys
import zipfile

with zipfile.ZipFile(sys.argv[1]) as wheel:
    text = gzip.decompress(wheel.read("sklearn/datasets/data/digits.csv.gz")).decode("ascii")
rows = [[int(float(cell)) for cell in row] for row in csv.reader(io.StringIO(text))]
assert len(rows) == 1797 and all(len(row) == 65 for row in rows)
assert all(0 <= pixel <= 16 for row in rows for pixel in row[:64]) and all(0 <= row[64] <= 9 for row in rows)

with open("images.idx3-ubyte", "wb") as file:
    file.write(struct.pack(">IIII", 0x0803, len(rows), 8, 8))
    file.write(bytes(pixel for row in rows for pixel in row[:64]))
with open("labels.idx1-ubyte", "wb") as file:
    file.write(struct.pack(">II", 0x0801, len(rows)))
    file.write(bytes(row[64] for row in rows))
