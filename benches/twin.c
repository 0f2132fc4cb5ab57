/* The loops of the benchmarks as one would write them in C: what ours are measured against.
 *
 * Two ways to learn of ends: a callback on librbd's thread that puts the operation on a list and wakes the loop, and
 * librbd's own queue, announced by an eventfd. Each loop keeps `depth` operations in flight until `count` have ended. A third
 * loop blocks. */
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <rados/librados.h>
#include <rbd/librbd.h>

struct twin;

struct op {
  struct twin *twin;
  struct op *next;
  char *buffer;
  ssize_t result;
};

struct twin {
  rados_t cluster;
  rados_ioctx_t ioctx;
  rbd_image_t image;
  int event; /* -1: callbacks */
  int again; /* the queue gave a batch, and may have more without being asked for an announcement */
  struct op *ops;
  rbd_completion_t *batch;
  char *buffers;
  uint64_t room; /* bytes of the buffers */
  uint32_t depth; /* operations there are */
  pthread_mutex_t lock;
  pthread_cond_t ended;
  struct op *done;
};

/* What a loop is to do; the offsets are given, so that both sides use the same. */
struct work {
  const uint64_t *offsets;
  const uint8_t *writes; /* 1 where the operation is a write */
  uint64_t count;
  uint64_t block;
  uint32_t depth;
};

/* `osd_timeout`: seconds, as text; NULL for Ceph's default, which is none. */
int twin_open(const char *conf, const char *pool, const char *image, int queued, const char *osd_timeout,
              struct twin **out) {
  struct twin *twin = calloc(1, sizeof *twin);
  if (!twin)
    return -ENOMEM;
  twin->event = -1;
  pthread_mutex_init(&twin->lock, NULL);
  pthread_cond_init(&twin->ended, NULL);
  int r = rados_create(&twin->cluster, "admin");
  if (r < 0)
    goto freed;
  if ((r = rados_conf_read_file(twin->cluster, conf)) < 0)
    goto shut;
  if (osd_timeout && (r = rados_conf_set(twin->cluster, "rados_osd_op_timeout", osd_timeout)) < 0)
    goto shut;
  if ((r = rados_connect(twin->cluster)) < 0)
    goto shut;
  if ((r = rados_ioctx_create(twin->cluster, pool, &twin->ioctx)) < 0)
    goto shut;
  if ((r = rbd_open(twin->ioctx, image, &twin->image, NULL)) < 0)
    goto destroyed;
  if (queued) {
    if ((twin->event = eventfd(0, EFD_CLOEXEC)) < 0)
      r = -errno;
    if (r < 0 || (r = rbd_set_image_notification(twin->image, twin->event, EVENT_TYPE_EVENTFD)) < 0) {
      rbd_close(twin->image);
      goto destroyed;
    }
  }
  *out = twin;
  return 0;
destroyed:
  rados_ioctx_destroy(twin->ioctx);
shut:
  rados_shutdown(twin->cluster);
freed:
  free(twin);
  return r;
}

void twin_close(struct twin *twin) {
  rbd_close(twin->image);
  rados_ioctx_destroy(twin->ioctx);
  rados_shutdown(twin->cluster);
  if (twin->event >= 0)
    close(twin->event);
  free(twin->buffers);
  free(twin->batch);
  free(twin->ops);
  free(twin);
}

static void ended(rbd_completion_t completion, void *arg) {
  struct op *op = arg;
  struct twin *twin = op->twin;
  op->result = rbd_aio_get_return_value(completion);
  rbd_aio_release(completion);
  pthread_mutex_lock(&twin->lock);
  int first = !twin->done;
  op->next = twin->done;
  twin->done = op;
  pthread_mutex_unlock(&twin->lock);
  if (first)
    pthread_cond_signal(&twin->ended);
}

static int submit(struct twin *twin, struct op *op, const struct work *work, uint64_t at) {
  rbd_completion_t completion;
  int r = rbd_aio_create_completion(op, twin->event < 0 ? ended : NULL, &completion);
  if (r < 0)
    return r;
  r = work->writes[at] ? rbd_aio_write(twin->image, work->offsets[at], work->block, op->buffer, completion)
                       : rbd_aio_read(twin->image, work->offsets[at], work->block, op->buffer, completion);
  if (r < 0)
    rbd_aio_release(completion);
  return r;
}

/* The operations that have ended, at least one. */
static struct op *wait_for_callbacks(struct twin *twin) {
  pthread_mutex_lock(&twin->lock);
  while (!twin->done)
    pthread_cond_wait(&twin->ended, &twin->lock);
  struct op *done = twin->done;
  twin->done = NULL;
  pthread_mutex_unlock(&twin->lock);
  return done;
}

static struct op *wait_for_queue(struct twin *twin, rbd_completion_t *batch, int depth) {
  for (;;) {
    uint64_t count;
    if (!twin->again && read(twin->event, &count, sizeof count) < 0)
      continue;
    struct op *done = NULL;
    int n = rbd_poll_io_events(twin->image, batch, depth);
    twin->again = n > 0;
    for (int i = 0; i < n; i++) {
      struct op *op = rbd_aio_get_arg(batch[i]);
      op->result = rbd_aio_get_return_value(batch[i]);
      rbd_aio_release(batch[i]);
      op->next = done;
      done = op;
    }
    if (done)
      return done;
  }
}

/* Made for the first run, and again for one that needs more. */
static int make_room(struct twin *twin, const struct work *work) {
  uint64_t room = work->depth * work->block;
  if (work->depth <= twin->depth && room <= twin->room)
    return 0;
  free(twin->buffers);
  free(twin->batch);
  free(twin->ops);
  twin->room = twin->depth = 0;
  twin->ops = calloc(work->depth, sizeof *twin->ops);
  twin->batch = calloc(work->depth, sizeof *twin->batch);
  twin->buffers = malloc(room);
  if (!twin->ops || !twin->batch || !twin->buffers)
    return -ENOMEM;
  memset(twin->buffers, 0x5a, room);
  twin->room = room;
  twin->depth = work->depth;
  return 0;
}

int twin_run(struct twin *twin, const struct work *work) {
  uint64_t next = 0, left = 0;
  int r = make_room(twin, work);
  struct op *ops = twin->ops;
  rbd_completion_t *batch = twin->batch;
  char *buffers = twin->buffers;
  for (uint32_t i = 0; r == 0 && i < work->depth && next < work->count; i++) {
    ops[i].twin = twin;
    ops[i].buffer = buffers + i * work->block;
    r = submit(twin, &ops[i], work, next++);
    left += r == 0;
  }
  while (left > 0) {
    struct op *done = twin->event < 0 ? wait_for_callbacks(twin) : wait_for_queue(twin, batch, work->depth);
    while (done) {
      struct op *op = done;
      done = op->next;
      left--;
      if (op->result < 0 && r == 0)
        r = (int)op->result;
      if (r == 0 && next < work->count) {
        r = submit(twin, op, work, next++);
        left += r == 0;
      }
    }
  }
  return r;
}

/* One operation at a time, by the calls that block. */
int twin_run_blocking(struct twin *twin, const struct work *work) {
  int r = make_room(twin, work);
  for (uint64_t at = 0; r == 0 && at < work->count; at++) {
    ssize_t moved = work->writes[at] ? rbd_write(twin->image, work->offsets[at], work->block, twin->buffers)
                                     : rbd_read(twin->image, work->offsets[at], work->block, twin->buffers);
    if (moved != (ssize_t)work->block)
      r = moved < 0 ? (int)moved : -EIO;
  }
  return r;
}
