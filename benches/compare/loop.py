"""The loop with python3-rbd: `depth` operations in flight until `count` were started; prints operations a second."""
import queue, random, sys, time
import rados, rbd

conf, image, kind, order, block, depth, count = sys.argv[1:5] + [int(word) for word in sys.argv[5:]]
cluster = rados.Rados(conffile=conf)
cluster.connect()
ioctx = cluster.open_ioctx('rbd')
image = rbd.Image(ioctx, image)
blocks, free, data = image.size() // block, queue.SimpleQueue(), b'Z' * block
for _ in range(depth):
    free.put(None)


def ended(*_):
    free.put(None)


def run(offsets):
    for n, offset in enumerate(offsets):
        free.get()
        if kind == 'write' or kind == 'mixed' and n % 10 >= 7:
            image.aio_write(data, offset, ended)
        else:
            image.aio_read(offset, block, ended)
    for _ in range(depth):
        free.get()
    for _ in range(depth):
        free.put(None)


run([n % blocks * block for n in range(2 * depth)])
offsets = [(n % blocks if order == 'sequential' else random.randrange(blocks)) * block for n in range(count)]
start = time.time()
run(offsets)
print(count / (time.time() - start))
image.close()
ioctx.close()
cluster.shutdown()
