/* Generate a load for a TFTP server, and compare every octet that it sends.
 *
 * There is one thread, and one socket for each transfer, which is connected when the server's TID is
 * known. No memory is allocated after the first request. The timeouts are those of common firmware:
 * always one second. After a gap in a window one ACK of the last block in order is sent (RFC 7440).
 * The result is one line of JSON. See usage() for the options. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

enum { RRQ = 1, WRQ, DATA, ACK, ERROR, OACK };
enum { IDLE, ASKED, RUNNING, HELD };
enum { WAIT_MS = 1000, LATE_MS = 200, TRIES = 10, BATCH = 64, LARGEST = 65507, EVENTS = 256 };

struct file {
    const char *name;
    const unsigned char *content; /* NULL if the octets are not compared */
    size_t size;
};

struct transfer {
    int fd, state, tries, gap, wrong;
    unsigned number;
    const struct file *file;
    uint32_t blksize, window;
    uint64_t next;  /* get: the block expected; put: the first one not acknowledged */
    uint64_t last;  /* put: the last block of the window in flight */
    uint64_t high;  /* put: the highest block ever sent */
    uint32_t count; /* get: blocks since the last ACK */
    int64_t deadline;
    struct transfer *earlier, *later; /* by deadline */
    struct transfer *behind;          /* in the ring of transfers that are held open, or of idle ones */
};

static struct sockaddr_in server;
static unsigned clients = 1, total = 1, blksize, window = 1, limit_s = 600, most_asking;
static int writing, offload, holding, waiting; /* waiting: no held transfer advances */
static struct file *files;
static unsigned file_count;

static struct transfer *transfers, timers, *idle;
static struct transfer *ring_head, **ring_tail = &ring_head;
static unsigned in_flight, started, asking, active, done, failures, wrong;
static uint64_t octets, received, sent, retransmissions, duplicates;
static uint32_t granted_blksize, granted_window;
static char first_error[128];
static int poller = -1, single;
static int64_t now;
static int64_t step_began, step_ns; /* of held transfers, until the first one ends */
static uint64_t steps;

static unsigned char *input;
static size_t stride;
static unsigned batch;
static struct mmsghdr in_messages[BATCH];
static struct iovec in_vectors[BATCH];
static char in_controls[BATCH][CMSG_SPACE(sizeof(int))];

static void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(2);
}

static int64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void put16(unsigned char *p, unsigned value)
{
    p[0] = value >> 8;
    p[1] = value;
}

static unsigned get16(const unsigned char *p)
{
    return p[0] << 8 | p[1];
}

/* -- Timers: all waits are equal, so the list of transfers by last progress is sorted. -------- */

static void disarm(struct transfer *t)
{
    t->earlier->later = t->later;
    t->later->earlier = t->earlier;
    t->earlier = t->later = t;
}

static void arm(struct transfer *t)
{
    t->earlier->later = t->later;
    t->later->earlier = t->earlier;
    t->deadline = now + (int64_t)WAIT_MS * 1000000;
    t->earlier = timers.earlier;
    t->later = &timers;
    timers.earlier->later = t;
    timers.earlier = t;
}

/* -- Sending ---------------------------------------------------------------------------------- */

static void send_request(struct transfer *t)
{
    unsigned char packet[1024];
    size_t room = sizeof packet, at = 2;
    const char *mark = strchr(t->file->name, '%');

    put16(packet, writing ? WRQ : RRQ);
    if (mark) /* another name for each upload */
        at += snprintf((char *)packet + at, room - at, "%.*s%u%s", (int)(mark - t->file->name),
                       t->file->name, t->number, mark + 1);
    else
        at += snprintf((char *)packet + at, room - at, "%s", t->file->name);
    at += 1 + snprintf((char *)packet + at + 1, room - at - 1, "octet") + 1;
    if (blksize) {
        at += snprintf((char *)packet + at, room - at, "blksize") + 1;
        at += snprintf((char *)packet + at, room - at, "%u", blksize) + 1;
    }
    if (window > 1) {
        at += snprintf((char *)packet + at, room - at, "windowsize") + 1;
        at += snprintf((char *)packet + at, room - at, "%u", window) + 1;
    }
    if (holding) { /* so that the server does not give up held transfers */
        at += snprintf((char *)packet + at, room - at, "timeout") + 1;
        at += snprintf((char *)packet + at, room - at, "20") + 1;
    }
    sendto(t->fd, packet, at, 0, (struct sockaddr *)&server, sizeof server);
    sent++;
}

static void send_ack(struct transfer *t)
{
    unsigned char packet[4];
    put16(packet, ACK);
    put16(packet + 2, t->next - 1);
    send(t->fd, packet, 4, 0);
    sent++;
    t->count = 0;
}

/* Send the window that starts at the first unacknowledged block. */
static void send_window(struct transfer *t)
{
    static unsigned char headers[BATCH][4];
    static struct iovec vectors[BATCH * 2];
    static struct mmsghdr messages[BATCH];
    static char controls[BATCH][CMSG_SPACE(sizeof(uint16_t))];
    const struct file *file = t->file;
    uint64_t end = file->size / t->blksize + 1, block = t->next;
    unsigned each = 1;

    t->last = t->next + t->window - 1 < end ? t->next + t->window - 1 : end;
    if (offload && t->window > 1) {
        each = LARGEST / (t->blksize + 4);
        each = each < 1 ? 1 : each > BATCH ? BATCH : each;
    }
    while (block <= t->last) {
        unsigned used = 0, count = 0;
        while (block <= t->last && used < BATCH) {
            struct msghdr *m = &messages[count].msg_hdr;
            unsigned first = used;
            memset(m, 0, sizeof *m);
            m->msg_iov = &vectors[used * 2];
            while (block <= t->last && used < BATCH && used - first < each) {
                size_t offset = (block - 1) * t->blksize, left = file->size - offset;
                put16(headers[used], DATA);
                put16(headers[used] + 2, block);
                vectors[used * 2] = (struct iovec){headers[used], 4};
                vectors[used * 2 + 1] = (struct iovec){
                    (void *)(file->content + offset), left < t->blksize ? left : t->blksize};
                used++, block++;
            }
            m->msg_iovlen = (used - first) * 2;
            if (used - first > 1) {
                m->msg_control = controls[count];
                m->msg_controllen = sizeof controls[count];
                struct cmsghdr *c = CMSG_FIRSTHDR(m);
                *c = (struct cmsghdr){.cmsg_level = SOL_UDP,
                                      .cmsg_type = UDP_SEGMENT,
                                      .cmsg_len = CMSG_LEN(sizeof(uint16_t))};
                *(uint16_t *)CMSG_DATA(c) = t->blksize + 4;
            }
            count++;
        }
        if (count == 1)
            sendmsg(t->fd, &messages[0].msg_hdr, 0);
        else
            sendmmsg(t->fd, messages, count, 0);
    }
    sent += t->last - t->next + 1;
    if (t->high >= t->next)
        retransmissions += (t->high < t->last ? t->high : t->last) - t->next + 1;
    if (t->last > t->high)
        t->high = t->last;
}

/* -- A transfer's life ------------------------------------------------------------------------ */

static void start(struct transfer *t)
{
    t->number = started++;
    t->file = &files[t->number % file_count];
    t->state = ASKED;
    t->tries = t->gap = t->wrong = 0;
    t->blksize = 512;
    t->window = 1;
    t->next = 1;
    t->last = t->high = t->count = 0;
    t->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (t->fd < 0)
        die("socket: %s", strerror(errno));
    if (window > 1) {
        int size = 4 << 20, on = 1;
        setsockopt(t->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
        if (offload && !writing && setsockopt(t->fd, SOL_UDP, UDP_GRO, &on, sizeof on))
            die("UDP_GRO: %s", strerror(errno));
    }
    if (single) {
        struct timeval wait = {WAIT_MS / 1000, WAIT_MS % 1000 * 1000};
        setsockopt(t->fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    } else {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = t};
        if (epoll_ctl(poller, EPOLL_CTL_ADD, t->fd, &event))
            die("epoll_ctl: %s", strerror(errno));
    }
    active++;
    asking++;
    arm(t);
    send_request(t);
}

/* Start transfers, as long as there are idle clients and few requests without an answer. */
static void start_idle(void)
{
    while (!holding && idle && started < total && asking < most_asking) {
        struct transfer *t = idle;
        idle = t->behind;
        start(t);
    }
}

/* Let transfers in the ring advance, as many at the same time as there are clients. */
static void pump(void)
{
    while (!waiting && in_flight < clients && ring_head) {
        struct transfer *t = ring_head;
        if (!(ring_head = t->behind))
            ring_tail = &ring_head;
        if (t->state != HELD) /* the server has given it up */
            continue;
        in_flight++;
        t->state = RUNNING;
        arm(t);
        send_ack(t);
    }
}

static void end(struct transfer *t, int failed)
{
    close(t->fd);
    t->fd = -1;
    disarm(t);
    active--;
    if (failed)
        failures++;
    else
        done++;
    if (step_began && !step_ns) {
        step_ns = clock_ns() - step_began;
        steps = received;
    }
    wrong += t->wrong;
    asking -= t->state == ASKED;
    if (holding && t->state == RUNNING)
        in_flight--;
    t->state = IDLE;
    if (holding) /* the ring needs the `behind` of a transfer that the server has given up */
        return;
    t->behind = idle;
    idle = t;
    start_idle();
}

static void ack_is_due(struct transfer *t)
{
    if (!holding) {
        send_ack(t);
        return;
    }
    if (t->state == RUNNING)
        in_flight--;
    t->state = HELD;
    disarm(t);
    t->behind = NULL;
    *ring_tail = t;
    ring_tail = &t->behind;
    pump();
}

static void take_options(struct transfer *t, unsigned char *p, size_t length)
{
    unsigned char *stop = p + length;
    p[length] = 0;
    while (p < stop) {
        const char *name = (const char *)p;
        const char *value = name + strlen(name) + 1;
        if ((const unsigned char *)value >= stop)
            return;
        if (!strcasecmp(name, "blksize") && (uint32_t)atoi(value) <= blksize)
            t->blksize = atoi(value);
        else if (!strcasecmp(name, "windowsize") && (uint32_t)atoi(value) <= window)
            t->window = atoi(value);
        p = (unsigned char *)value + strlen(value) + 1;
    }
    if (!t->blksize || !t->window)
        die("blksize or windowsize of 0 in an OACK");
}

static int take_data(struct transfer *t, const unsigned char *p, size_t length)
{
    if (get16(p + 2) == (uint16_t)t->next) {
        const struct file *file = t->file;
        size_t offset = (t->next - 1) * t->blksize;
        size_t size = length - 4;
        int is_last = size < t->blksize;

        if (file->content && (offset + size > file->size || size > t->blksize ||
                              memcmp(file->content + offset, p + 4, size) ||
                              (is_last && offset + size != file->size)))
            t->wrong = 1;
        octets += size;
        t->next++;
        t->gap = t->tries = 0;
        arm(t);
        if (is_last) {
            send_ack(t);
            end(t, 0);
            return 0;
        }
        if (++t->count == t->window)
            ack_is_due(t);
        return 1;
    }
    if ((uint16_t)(get16(p + 2) - t->next) < 0x8000) {
        if (!t->gap) {
            t->gap = 1;
            send_ack(t);
        }
        return 1;
    }
    duplicates++;
    /* The last acknowledged block came again: that ACK was lost. */
    if (!t->count && t->state != HELD && get16(p + 2) == (uint16_t)(t->next - 1)) {
        retransmissions++;
        send_ack(t);
    }
    return 1;
}

static int take_ack(struct transfer *t, unsigned block)
{
    uint64_t ahead = (uint16_t)(block - (uint16_t)(t->next - 1));

    if (ahead > 0 && ahead <= t->last - t->next + 1) {
        size_t before = (t->next - 1) * t->blksize, after = before + ahead * t->blksize;
        octets += (after < t->file->size ? after : t->file->size) - before;
        t->next += ahead;
        t->gap = t->tries = 0;
        arm(t);
        if (t->next > t->file->size / t->blksize + 1) {
            end(t, 0);
            return 0;
        }
        send_window(t);
    } else if (ahead == 0 && t->window > 1 && !t->gap) {
        /* In a window, an ACK of the block before it means that its first block was lost. */
        t->gap = 1;
        send_window(t);
    } else {
        duplicates++;
    }
    return 1;
}

/* Process one datagram; return whether the transfer goes on. */
static int take(struct transfer *t, unsigned char *p, size_t length)
{
    unsigned opcode;

    received++;
    if (length < 4)
        return 1;
    opcode = get16(p);
    if (t->state == ASKED && opcode != ERROR) {
        t->state = RUNNING;
        asking--;
        start_idle();
        t->tries = 0;
        if (holding)
            in_flight++;
        arm(t);
        if (opcode == OACK)
            take_options(t, p + 2, length - 2);
        granted_blksize = t->blksize;
        granted_window = t->window;
        if (writing) {
            if (opcode == OACK || (opcode == ACK && get16(p + 2) == 0))
                send_window(t);
            return 1;
        }
        if (opcode == OACK) {
            /* One that is to be held is held at its first block: until its address has answered,
             * a server may give a client up early. */
            send_ack(t);
            return 1;
        }
    }
    if (opcode == DATA && !writing)
        return take_data(t, p, length);
    if (opcode == ACK && writing)
        return take_ack(t, get16(p + 2));
    if (opcode == OACK) {
        duplicates++;
        if (!writing && t->next == 1 && t->state == RUNNING) {
            retransmissions++;
            send_ack(t);
        }
        return 1;
    }
    if (opcode == ERROR) {
        if (!first_error[0]) {
            unsigned at = 0;
            for (size_t i = 4; i < length && p[i] && at < sizeof first_error - 1; i++)
                first_error[at++] = p[i] < ' ' || p[i] > '~' || p[i] == '"' || p[i] == '\\' ? '?' : p[i];
            if (!at)
                strcpy(first_error, "ERROR without a text");
        }
        end(t, 1);
        return 0;
    }
    return 1;
}

/* -- Receiving -------------------------------------------------------------------------------- */

/* Return whether an answer is one to an earlier client, which had the same port. */
static int is_stale(const unsigned char *p, size_t length)
{
    unsigned opcode = length < 4 ? 0 : get16(p);
    return (opcode == DATA && get16(p + 2) != 1) || (opcode == ACK && get16(p + 2) != 0);
}

static void receive_first(struct transfer *t, int flags)
{
    struct sockaddr_in from;
    socklen_t size = sizeof from;
    ssize_t length = recvfrom(t->fd, input, stride, flags, (struct sockaddr *)&from, &size);

    if (length < 0 || is_stale(input, length))
        return;
    connect(t->fd, (struct sockaddr *)&from, sizeof from);
    take(t, input, length);
}

static void receive_window(struct transfer *t, int flags)
{
    int count;

    for (unsigned i = 0; i < batch; i++) {
        in_messages[i].msg_hdr.msg_control = offload ? in_controls[i] : NULL;
        in_messages[i].msg_hdr.msg_controllen = offload ? sizeof in_controls[i] : 0;
    }
    count = recvmmsg(t->fd, in_messages, batch, flags | MSG_WAITFORONE, NULL);
    for (int i = 0; i < count; i++) {
        struct msghdr *m = &in_messages[i].msg_hdr;
        struct cmsghdr *c = offload ? CMSG_FIRSTHDR(m) : NULL;
        size_t left = in_messages[i].msg_len, segment = left;
        unsigned char *p = in_vectors[i].iov_base;

        if (c && c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO)
            segment = *(int *)CMSG_DATA(c);
        while (left) {
            size_t length = left < segment ? left : segment;
            if (!take(t, p, length))
                return;
            p += length;
            left -= length;
        }
    }
}

static void receive(struct transfer *t, int flags)
{
    if (t->state == ASKED) {
        receive_first(t, flags);
    } else if (t->window > 1 && !writing) {
        receive_window(t, flags);
    } else {
        ssize_t length = recv(t->fd, input, stride, flags);
        if (length >= 0)
            take(t, input, length);
    }
}

static void prepare_input(void)
{
    /* Datagrams lie close together, so that a window's buffers share no cache set; the octet more
     * is for the NUL that take_options() adds. */
    batch = offload && window > 1 ? 4 : BATCH;
    stride = offload && window > 1 ? 65536 : (blksize > 1464 ? blksize : 1464) + 64;
    input = calloc(batch, stride + 1);
    if (!input)
        die("out of memory");
    for (unsigned i = 0; i < batch; i++) {
        in_vectors[i] = (struct iovec){input + i * stride, stride};
        in_messages[i].msg_hdr.msg_iov = &in_vectors[i];
        in_messages[i].msg_hdr.msg_iovlen = 1;
    }
}

static void expire(void)
{
    while (timers.later != &timers && timers.later->deadline <= now) {
        struct transfer *t = timers.later;
        if (++t->tries > TRIES) {
            if (!first_error[0])
                strcpy(first_error, "no answer");
            end(t, 1);
            continue;
        }
        arm(t);
        if (t->state == ASKED) {
            retransmissions++;
            send_request(t);
        } else if (writing) {
            t->gap = 0;
            send_window(t);
        } else {
            t->gap = 0;
            retransmissions++;
            send_ack(t);
        }
    }
}

/* -- The loop --------------------------------------------------------------------------------- */

static void hold(int64_t began)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};

    printf("{\"held\": %u, \"failures\": %u, \"seconds\": %.6f}\n", active, failures,
           (now - began) / 1e9);
    fflush(stdout);
    if (epoll_ctl(poller, EPOLL_CTL_ADD, STDIN_FILENO, &event))
        die("standard input: %s", strerror(errno));
}

/* End the transfers that the server has, or may still begin: later clients may get their ports. */
static void abandon(unsigned count)
{
    static const char enough[] = "\0\5\0\0enough";
    struct sockaddr_in from;
    socklen_t size = sizeof from;

    if (asking)
        usleep(LATE_MS * 1000);
    for (unsigned i = 0; i < count; i++) {
        int fd = transfers[i].fd;
        if (transfers[i].state > ASKED)
            send(fd, enough, sizeof enough, 0);
        else if (transfers[i].state == ASKED &&
                 recvfrom(fd, input, stride, MSG_DONTWAIT, (struct sockaddr *)&from, &size) >= 0)
            sendto(fd, enough, sizeof enough, 0, (struct sockaddr *)&from, sizeof from);
    }
}

static void run(void)
{
    static struct epoll_event events[EVENTS];
    int64_t began = now = clock_ns(), stop = began + (int64_t)limit_s * 1000000000;
    unsigned first = clients < total ? clients : total;
    double seconds;

    for (unsigned i = first; i-- > 0;) {
        transfers[i].behind = idle;
        idle = &transfers[i];
    }
    start_idle();
    if (holding)
        for (unsigned i = 0; i < first; i++)
            start(&transfers[i]);
    while (active && now < stop) {
        if (single) {
            receive(&transfers[0], 0);
            now = clock_ns();
        } else {
            int64_t wait = 100;
            if (timers.later != &timers)
                wait = (timers.later->deadline - now + 999999) / 1000000;
            int count = epoll_wait(poller, events, EVENTS, wait < 0 ? 0 : wait > 100 ? 100 : wait);
            now = clock_ns();
            for (int i = 0; i < count; i++) {
                struct transfer *t = events[i].data.ptr;
                if (t) {
                    if (t->state != IDLE)
                        receive(t, MSG_DONTWAIT);
                    continue;
                }
                epoll_ctl(poller, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
                waiting = 0;
                began = step_began = clock_ns();
                octets = received = sent = retransmissions = duplicates = 0;
            }
            pump();
        }
        expire();
        if (waiting == 1) {
            while (asking < clients && started < total)
                start(&transfers[started]);
            if (!asking) {
                waiting = 2; /* all are open: wait for a line on standard input */
                hold(began);
            }
        }
    }
    seconds = (clock_ns() - began) / 1e9;
    if (active && !first_error[0])
        strcpy(first_error, "out of time");
    abandon(holding ? total : first);
    printf("{\"seconds\": %.6f, \"octets\": %llu, \"transfers\": %u, \"failures\": %u, "
           "\"wrong\": %u, \"received\": %llu, \"sent\": %llu, \"retransmissions\": %llu, "
           "\"duplicates\": %llu, \"blksize\": %u, \"windowsize\": %u, \"step_seconds\": %.6f, "
           "\"steps\": %llu, \"error\": \"%s\"}\n",
           seconds, (unsigned long long)octets, done, total - done, wrong,
           (unsigned long long)received, (unsigned long long)sent,
           (unsigned long long)retransmissions, (unsigned long long)duplicates, granted_blksize,
           granted_window, step_ns / 1e9, (unsigned long long)steps, first_error);
}

static void map_files(char **names, unsigned count, const char *local)
{
    struct stat status;

    file_count = count;
    files = calloc(count, sizeof *files);
    for (unsigned i = 0; i < count; i++) {
        char path[4096];
        int fd;

        files[i].name = names[i];
        if (!local)
            continue;
        if (stat(local, &status))
            die("%s: %s", local, strerror(errno));
        snprintf(path, sizeof path, S_ISDIR(status.st_mode) ? "%s/%s" : "%s", local, names[i]);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &status))
            die("%s: %s", path, strerror(errno));
        files[i].size = status.st_size;
        /* One octet more than the file, so that an empty file can be mapped too. */
        files[i].content = mmap(NULL, status.st_size + 1, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
        if (files[i].content == MAP_FAILED)
            die("%s: %s", path, strerror(errno));
        close(fd);
    }
}

static void usage(void)
{
    die("usage: load [options] HOST PORT NAME...\n"
        "  -c N  transfers in flight at once        -n N  transfers in all, over the names in turn\n"
        "  -b N  blksize (0: no options)            -w N  windowsize\n"
        "  -u    upload: a %% in NAME becomes the transfer's number\n"
        "  -g    UDP_GRO for gets, UDP_SEGMENT for puts, with windows\n"
        "  -f P  file, or folder of files by NAME, to compare gets with, or to upload\n"
        "  -o    open all N transfers, say so, wait for a line on standard input, then step them\n"
        "        in turn to their end\n"
        "  -a N  at most N requests wait for an answer at a time [as many as clients]\n"
        "  -l S  stop after S seconds");
}

int main(int argc, char **argv)
{
    const char *local = NULL;
    struct rlimit descriptors;
    int option;

    while ((option = getopt(argc, argv, "c:n:b:w:ugf:oa:l:")) != -1)
        switch (option) {
        case 'c': clients = atoi(optarg); break;
        case 'n': total = atoi(optarg); break;
        case 'b': blksize = atoi(optarg); break;
        case 'w': window = atoi(optarg); break;
        case 'u': writing = 1; break;
        case 'g': offload = 1; break;
        case 'f': local = optarg; break;
        case 'o': holding = waiting = 1; break;
        case 'a': most_asking = atoi(optarg); break;
        case 'l': limit_s = atoi(optarg); break;
        default: usage();
        }
    if (argc - optind < 3 || !clients || !total || !window || blksize > 65464 || window > 65535 ||
        (writing && (!local || holding)) || strlen(argv[optind + 2]) > 512)
        usage();
    server.sin_family = AF_INET;
    server.sin_port = htons(atoi(argv[optind + 1]));
    if (inet_pton(AF_INET, argv[optind], &server.sin_addr) != 1)
        die("%s: not an IPv4 address", argv[optind]);
    map_files(argv + optind + 2, argc - optind - 2, local);
    prepare_input();

    if (!getrlimit(RLIMIT_NOFILE, &descriptors)) {
        descriptors.rlim_cur = descriptors.rlim_max;
        setrlimit(RLIMIT_NOFILE, &descriptors);
    }
    if (!most_asking)
        most_asking = clients;
    single = clients == 1 && !holding;
    if (!single && (poller = epoll_create1(EPOLL_CLOEXEC)) < 0)
        die("epoll: %s", strerror(errno));
    timers.earlier = timers.later = &timers;
    transfers = calloc(holding ? total : clients, sizeof *transfers);
    for (unsigned i = 0; i < (holding ? total : clients); i++)
        transfers[i].earlier = transfers[i].later = &transfers[i];
    run();
    return failures || wrong || done != total;
}
