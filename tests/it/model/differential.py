"""Runs a script of operations on an image by python3-rbd, and prints what can be seen of the image afterwards."""
import json
import sys

import rados
import rbd

PATTERN = 512

task = json.load(sys.stdin)


def fold(at, length, size):
    at = at % size if size else 0
    return at, min(length, size - at)


def content_hash(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


def names(image):
    return [snap["name"] for snap in image.list_snaps()]


def run(ioctx):
    name = task["image"]
    rbd.RBD().create(ioctx, name, task["size"], order=task["order"], old_format=False, features=task["features"])
    image = rbd.Image(ioctx, name)
    for op in task["script"]:
        kind = op["op"]
        size = image.size()
        at, length = fold(op.get("at", 0), op.get("len", op.get("times", 0) * PATTERN), size)
        if kind == "write":
            if length:
                image.write(bytes([op["byte"]]) * length, at)
        elif kind == "discard":
            if length:
                image.discard(at, length)
        elif kind == "write_zeroes":
            if length:
                image.write_zeroes(at, length)
        elif kind == "write_same":
            if length // PATTERN:
                image.write(bytes([op["byte"]]) * (length // PATTERN * PATTERN), at)
        elif kind == "resize":
            image.resize(op["size"], allow_shrink=True)
        elif kind == "snapshot":
            image.create_snap("s%d" % len(names(image)))
        elif kind == "rollback":
            if names(image):
                image.rollback_to_snap(names(image)[op["which"] % len(names(image))])
        elif kind == "reopen":
            image.close()
            image = rbd.Image(ioctx, name)
    image.flush()

    def extents(since):
        found = []
        image.diff_iterate(0, image.size(), since, lambda at, length, exists: found.append([at, length, bool(exists)]))
        return found

    stat = image.stat()
    seen = {
        "size": stat["size"],
        "objects": stat["num_objs"],
        "object_size": stat["obj_size"],
        "features": image.features(),
        "flags": image.flags(),
        "snapshots": [{"name": snap["name"], "size": snap["size"]} for snap in image.list_snaps()],
        "diffs": {since or "": extents(since) for since in [None] + names(image)},
        "content": content_hash(image.read(0, stat["size"]) if stat["size"] else b""),
    }
    image.close()
    json.dump(seen, sys.stdout)


with rados.Rados(conffile=task["conf"]) as cluster:
    with cluster.open_ioctx(task["pool"]) as ioctx:
        ioctx.set_namespace(task["namespace"])
        run(ioctx)
