/* A table of flows: it waits for sockets, and sends the routine part of downloads.

   `offload.py` states the contract and has the same in Python; `transfer/flow.py` says what a flow
   is. There is no timer here, and nothing is sent twice. What a flow does not expect is returned
   to Python. The lock of the interpreter is released in `poll`. Until it has returned, no other
   method may run (`is_polling`): so no flow, reference or buffer changes while `poll` uses it. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <time.h>

#define MOST_READY 64              /* sockets that one round serves */
#define MOST_SEGMENTS 64           /* datagrams of one send */
#define MOST_ROUND_TRIPS 32        /* MAX_ROUND_TRIPS in offload.py */
#define PACKET_SIZE 448            /* MAX_CLIENT_PACKET in offload.py, in octets */
#define HEADER_SIZE 4              /* of DATA, and all of an ACK, in octets */
#define SEGMENT_OPTION 103         /* UDP_SEGMENT of linux/udp.h; old C libraries lack it */

typedef struct {
    PyObject *owner;
    Py_buffer octets;              /* a part of the file; held until the flow is freed */
    const uint8_t *window_start;   /* the window that was sent, and its size in octets */
    Py_ssize_t window_size;
    const uint8_t *next;           /* the octets after this window, and their number */
    Py_ssize_t left;
    uint16_t blksize, windowsize, segments;
    struct sockaddr_in6 peer;      /* or a sockaddr_in; unused if the socket is connected */
    socklen_t peer_size;           /* 0 if the socket is connected */
    int descriptor;
    uint16_t awaited;              /* the number of the ACK, and of the last block of the window */
    int is_file_end, is_first;     /* see Offer in flow.py */
    bool has_last, has_ended;
    Py_ssize_t acks, blocks, window, unsent, round_trip_count; /* see Progress in flow.py */
    double sent_at, measure_at, round_trips[MOST_ROUND_TRIPS];
} Flow;

typedef struct {
    PyObject_HEAD
    int epoll;
    double measure_interval;       /* seconds */
    Flow **flows;                  /* by descriptor */
    Py_ssize_t size;               /* entries of `flows` */
    bool is_polling;
} Table;

typedef struct {
    PyObject *owner;
    socklen_t peer_size;           /* that of the flow */
    ssize_t size;                  /* octets of the packet; -1: it has ended without a packet */
    bool is_strange;               /* the packet is not from the peer, but from `from` */
    struct sockaddr_in6 from;
    uint8_t packet[PACKET_SIZE];
} Ending;

/* What one call of `poll` has found. */
typedef struct {
    struct epoll_event ready[MOST_READY], others[MOST_READY];
    Ending endings[MOST_READY];
    Flow *queue[MOST_READY];       /* flows whose window must be sent */
    int other_count, ending_count, queue_count;
    long served;
} Found;

/* Go to the next window; return false if the machine must do that. */
static bool advance(Flow *flow, double now, double measure_interval)
{
    const Py_ssize_t full = flow->left / flow->blksize; /* blocks; there may be a shorter one */
    const bool is_last = flow->windowsize > full;
    if (flow->has_last || (is_last && !flow->is_file_end))
        return false;
    const Py_ssize_t count = is_last ? full + 1 : flow->windowsize;
    const Py_ssize_t size = is_last ? flow->left : count * flow->blksize;
    if (flow->is_first || is_last || now >= flow->measure_at) {
        if (flow->round_trip_count == MOST_ROUND_TRIPS)
            return false;
        flow->round_trips[flow->round_trip_count++] = now - flow->sent_at;
        if (!flow->is_first && !is_last)
            flow->measure_at = now + measure_interval;
        flow->is_first = false;
    }
    flow->window_start = flow->next;
    flow->window_size = size;
    flow->window = count;
    flow->next += size;
    flow->left -= size;
    flow->awaited = (uint16_t)(flow->awaited + count);
    flow->has_last = is_last;
    flow->sent_at = now;
    flow->acks++;
    flow->blocks += count;
    return true;
}

/* End a flow without a packet, or with the one that was just stored in the next ending. */
static void end_flow(Found *found, Flow *flow, bool has_packet)
{
    Ending *ending = &found->endings[found->ending_count++];
    ending->owner = flow->owner;
    ending->peer_size = flow->peer_size;
    ending->size = has_packet ? ending->size : -1;
    flow->has_ended = true;
}

static void receive(Table *self, Found *found, Flow *flow, double now)
{
    Ending *ending = &found->endings[found->ending_count];
    const uint8_t *octets = ending->packet;
    socklen_t from_size = sizeof ending->from;
    ending->size = recvfrom(flow->descriptor, ending->packet, PACKET_SIZE, MSG_DONTWAIT,
                            (struct sockaddr *)&ending->from, &from_size);
    if (ending->size < 0) {
        if (errno != EAGAIN && errno != EINTR)
            end_flow(found, flow, false);
        return;
    }
    found->served++;
    if (flow->peer_size == sizeof(struct sockaddr_in6))
        ending->from.sin6_flowinfo = 0; /* a flow label is no part of the address */
    ending->is_strange = flow->peer_size && memcmp(&ending->from, &flow->peer, flow->peer_size);
    if (ending->size == HEADER_SIZE && !octets[0] && octets[1] == 4 && !ending->is_strange
        && (octets[2] << 8 | octets[3]) == flow->awaited
        && advance(flow, now, self->measure_interval))
        found->queue[found->queue_count++] = flow;
    else
        end_flow(found, flow, true);
}

/* Send the window of a flow, `segments` blocks with one call; return false after an error. */
static bool send_window(Flow *flow)
{
    uint8_t headers[MOST_SEGMENTS][HEADER_SIZE];
    struct iovec parts[2 * MOST_SEGMENTS];
    const uint16_t segment = (uint16_t)(HEADER_SIZE + flow->blksize);
    union { struct cmsghdr header; char space[CMSG_SPACE(sizeof segment)]; } control;
    const uint8_t *octets = flow->window_start, *end = octets + flow->window_size;
    unsigned number = (unsigned)(flow->awaited - flow->window + 1);
    for (flow->unsent = flow->window; flow->unsent;) {
        Py_ssize_t count = Py_MIN((Py_ssize_t)flow->segments, flow->unsent);
        struct msghdr message = {.msg_name = &flow->peer, .msg_namelen = flow->peer_size,
                                 .msg_iov = parts, .msg_iovlen = (size_t)(2 * count)};
        for (Py_ssize_t index = 0; index < count; index++, number++) {
            memcpy(headers[index], (uint8_t[]){0, 3, number >> 8 & 255, number & 255}, 4);
            size_t size = (size_t)Py_MIN((Py_ssize_t)flow->blksize, end - octets);
            parts[2 * index] = (struct iovec){headers[index], HEADER_SIZE};
            parts[2 * index + 1] = (struct iovec){(uint8_t *)octets, size};
            octets += size;
        }
        if (count > 1) {
            message.msg_control = &control;
            message.msg_controllen = sizeof control;
            control.header = (struct cmsghdr){CMSG_LEN(2), IPPROTO_UDP, SEGMENT_OPTION};
            memcpy(CMSG_DATA(&control.header), &segment, sizeof segment);
        }
        if (sendmsg(flow->descriptor, &message, MSG_DONTWAIT) < 0)
            return false;
        flow->unsent -= count;
    }
    return true;
}

/* Serve flows until Python is needed. An interrupted wait counts as one without events. */
static void serve(Table *self, Found *found, int most, double until, double idle_until)
{
    struct timespec clock;
    double now;
    do {
        int count = epoll_wait(self->epoll, found->ready, most, 0);
        clock_gettime(CLOCK_MONOTONIC, &clock);
        now = (double)clock.tv_sec + 1e-9 * (double)clock.tv_nsec;
        if (count <= 0 && (found->served || now >= idle_until))
            return;
        found->queue_count = 0;
        for (int index = 0; index < count; index++) {
            struct epoll_event *event = &found->ready[index];
            Flow *flow = event->data.fd < self->size ? self->flows[event->data.fd] : NULL;
            if (flow && event->events == EPOLLIN && !flow->has_ended) {
                receive(self, found, flow, now);
                continue;
            }
            if (flow && !flow->has_ended)
                end_flow(found, flow, false);
            found->others[found->other_count++] = *event;
        }
        for (int index = 0; index < found->queue_count; index++)
            if (!send_window(found->queue[index]))
                end_flow(found, found->queue[index], false);
    } while (!found->ending_count && !found->other_count && now < until);
}

/* Append an item and release it; return NULL with an exception set if something is missing. */
static PyObject *append(PyObject *list, PyObject *item)
{
    if (list && (!item || PyList_Append(list, item) < 0))
        Py_CLEAR(list);
    Py_XDECREF(item);
    return list;
}

static bool may_change(const Table *self)
{
    if (self->is_polling)
        PyErr_SetString(PyExc_RuntimeError, "another thread polls the table");
    return !self->is_polling;
}

static PyObject *Table_poll(Table *self, PyObject *args)
{
    Found found;
    int most;
    double until, idle_until;
    if (!PyArg_ParseTuple(args, "idd", &most, &until, &idle_until) || !may_change(self))
        return NULL;
    found.served = found.ending_count = found.other_count = 0;
    self->is_polling = true;
    Py_BEGIN_ALLOW_THREADS
    serve(self, &found, Py_MIN(most, MOST_READY), until, idle_until);
    Py_END_ALLOW_THREADS
    self->is_polling = false;
    for (int index = 0; index < found.ending_count; index++)
        Py_INCREF(found.endings[index].owner); /* finalizers may end flows from here on */
    PyObject *ended = PyList_New(0), *others = PyList_New(0);
    for (Ending *ending = found.endings; found.ending_count--; ending++) {
        bool is_strange = ending->size >= 0 && ending->is_strange;
        ended = append(ended, Py_BuildValue(
            "(Ny#y#)", ending->owner, ending->size < 0 ? NULL : ending->packet, ending->size,
            is_strange ? (char *)&ending->from : NULL, (Py_ssize_t)ending->peer_size));
    }
    for (struct epoll_event *other = found.others; found.other_count--; other++)
        others = append(others, Py_BuildValue("(iI)", other->data.fd, other->events));
    return Py_BuildValue("(NNl)", ended, others, found.served);
}

static void free_flow(Table *self, Flow *flow)
{
    self->flows[flow->descriptor] = NULL;
    PyBuffer_Release(&flow->octets);
    Py_DECREF(flow->owner);
    PyMem_Free(flow);
}

static PyObject *Table_add(Table *self, PyObject *args)
{
    PyObject *octets;
    const char *peer;
    Py_ssize_t peer_size = 0, position;
    Flow flow = {0}, *added;
    if (!PyArg_ParseTuple(args, "iOz#HOnpHHHddp", &flow.descriptor, &flow.owner, &peer, &peer_size,
                          &flow.segments, &octets, &position, &flow.is_file_end, &flow.awaited,
                          &flow.blksize, &flow.windowsize, &flow.sent_at, &flow.measure_at,
                          &flow.is_first)
        || !may_change(self) || PyObject_GetBuffer(octets, &flow.octets, PyBUF_SIMPLE) < 0)
        return NULL;
    bool is_valid = position >= 0 && position <= flow.octets.len && flow.blksize && flow.windowsize
        && flow.segments && flow.segments <= MOST_SEGMENTS && peer_size <= (int)sizeof flow.peer
        && flow.descriptor >= 0 && flow.descriptor < self->size && !self->flows[flow.descriptor];
    if (!is_valid || !(added = PyMem_Malloc(sizeof *added))) {
        PyBuffer_Release(&flow.octets);
        Py_RETURN_FALSE;
    }
    memcpy(&flow.peer, peer ? peer : "", flow.peer_size = (socklen_t)peer_size);
    flow.next = (const uint8_t *)flow.octets.buf + position;
    flow.left = flow.octets.len - position;
    Py_INCREF(flow.owner);
    *(self->flows[flow.descriptor] = added) = flow;
    Py_RETURN_TRUE;
}

/* Return what a flow has done since the last report; or, with `is_brief`, when it has sent. */
static PyObject *Table_report(Table *self, PyObject *args)
{
    int descriptor, is_end, is_brief = 0;
    if (!PyArg_ParseTuple(args, "ip|p", &descriptor, &is_end, &is_brief) || !may_change(self))
        return NULL;
    Flow *flow = descriptor >= 0 && descriptor < self->size ? self->flows[descriptor] : NULL;
    if (!flow)
        return PyErr_Format(PyExc_KeyError, "descriptor %d has no flow", descriptor);
    if (is_brief)
        return PyFloat_FromDouble(flow->sent_at);
    const Flow done = *flow; /* the garbage collector may run, and a finalizer may end the flow */
    flow->acks = flow->blocks = flow->unsent = flow->round_trip_count = 0;
    if (is_end)
        free_flow(self, flow);
    PyObject *round_trips = PyList_New(0);
    for (Py_ssize_t index = 0; index < done.round_trip_count; index++)
        round_trips = append(round_trips, PyFloat_FromDouble(done.round_trips[index]));
    return Py_BuildValue("(nnnnNddN)", done.acks, done.blocks, done.window, done.unsent,
                         PyBool_FromLong(done.has_last), done.sent_at, done.measure_at,
                         round_trips);
}

static PyObject *Table_close(Table *self, PyObject *Py_UNUSED(args))
{
    if (!may_change(self))
        return NULL;
    for (Py_ssize_t index = 0; index < self->size; index++)
        if (self->flows[index])
            free_flow(self, self->flows[index]);
    Py_RETURN_NONE;
}

static int Table_init(Table *self, PyObject *args, PyObject *Py_UNUSED(names))
{
    int size;
    if (self->flows || !PyArg_ParseTuple(args, "idi", &self->epoll, &self->measure_interval,
                                         &size))
        return -1;
    self->flows = PyMem_Calloc((size_t)size, sizeof *self->flows);
    self->size = self->flows ? size : 0;
    return self->flows ? 0 : (PyErr_NoMemory(), -1);
}

static void Table_dealloc(Table *self)
{
    Py_XDECREF(Table_close(self, NULL));
    PyMem_Free(self->flows);
    Py_TYPE(self)->tp_free(self);
}

static PyMethodDef table_methods[] = {
    {"add", (PyCFunction)Table_add, METH_VARARGS, NULL},
    {"report", (PyCFunction)Table_report, METH_VARARGS, NULL},
    {"poll", (PyCFunction)Table_poll, METH_VARARGS, NULL},
    {"close", (PyCFunction)Table_close, METH_NOARGS, NULL},
    {0},
};

static PyTypeObject table_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "twisted_tftp.net._offload.Table",
    .tp_basicsize = sizeof(Table),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)Table_init,
    .tp_dealloc = (destructor)Table_dealloc,
    .tp_methods = table_methods,
};

static PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "_offload"};

PyMODINIT_FUNC PyInit__offload(void)
{
    PyObject *created = PyModule_Create(&module);
    if (!created || PyModule_AddType(created, &table_type) < 0)
        Py_CLEAR(created);
    return created;
}
