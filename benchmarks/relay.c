/* Simulate a network between TFTP clients and a server: drop, delay, repeat and reorder datagrams.
 *
 * A client is identified by its address. For each client there is one socket towards the server, so
 * the server sees one peer. For each transfer port (TID) of the server there is one socket towards
 * the client, so the client sees as many TIDs as the server has. Random numbers come from a seed, one
 * sequence for each direction. At the start the program prints its port. At end of file on standard
 * input it prints what it did as one line of JSON.
 *
 * usage: relay [-l LOSS] [-r REPEAT] [-o REORDER] [-d ONE_WAY_US] [-s SEED] HOST PORT
 * where LOSS, REPEAT and REORDER are chances from 0 to 1. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 64, LARGEST = 65536, LATE_NS = 2000000, ROUND = 64 };
enum { UP, DOWN };

/* A socket, to which an epoll event points. */
struct end {
    enum { REQUESTS, TO_SERVER, TO_CLIENT } kind;
    int fd;
    struct sockaddr_in peer; /* TO_SERVER: the client; TO_CLIENT: the server's TID */
    struct end *session;     /* TO_CLIENT: the socket towards the server */
    struct end *others;      /* TO_SERVER: its TO_CLIENT sockets */
    struct end *next;
};

struct datagram {
    int64_t due;
    uint64_t number; /* keeps the order of datagrams that are due at the same time */
    int fd;
    struct sockaddr_in to;
    size_t length;
    unsigned char content[];
};

static struct sockaddr_in server;
static struct end *clients;
static struct datagram **heap;
static size_t heap_count, heap_room;
static uint64_t numbers, chance[2];
static uint64_t passed[2], dropped[2], repeated, reordered;
static double loss, repeat, reorder;
static int64_t delay;
static int poller;

static int64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Return a random number from 0 to 1 (splitmix64). */
static double draw(int way)
{
    uint64_t z = chance[way] += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return ((z ^ z >> 31) >> 11) * 0x1p-53;
}

static int sooner(const struct datagram *a, const struct datagram *b)
{
    return a->due != b->due ? a->due < b->due : a->number < b->number;
}

static void push(struct datagram *d)
{
    size_t i = heap_count++;
    if (heap_count > heap_room) {
        heap_room = heap_room ? heap_room * 2 : 1024;
        heap = realloc(heap, heap_room * sizeof *heap);
    }
    for (; i && sooner(d, heap[(i - 1) / 2]); i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = d;
}

static struct datagram *pop(void)
{
    struct datagram *top = heap[0], *last = heap[--heap_count];
    size_t i = 0, child;
    while ((child = i * 2 + 1) < heap_count) {
        if (child + 1 < heap_count && sooner(heap[child + 1], heap[child]))
            child++;
        if (!sooner(heap[child], last))
            break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = last;
    return top;
}

static void pass(int way, int fd, const struct sockaddr_in *to, const unsigned char *content,
                 size_t length)
{
    int copies = 1;
    int64_t due = clock_ns() + delay;

    passed[way]++;
    if (draw(way) < loss) {
        dropped[way]++;
        return;
    }
    if (draw(way) < repeat) {
        repeated++;
        copies++;
    }
    if (draw(way) < reorder) {
        reordered++;
        due += LATE_NS;
    }
    while (copies--) {
        struct datagram *d = malloc(sizeof *d + length);
        *d = (struct datagram){due, numbers++, fd, *to, length};
        memcpy(d->content, content, length);
        push(d);
    }
}

static struct end *make_end(int kind)
{
    struct end *e = calloc(1, sizeof *e);
    int size = 4 << 20;
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr = server.sin_addr};

    e->kind = kind;
    e->fd = socket(AF_INET, SOCK_DGRAM, 0);
    setsockopt(e->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    if (e->fd < 0 || bind(e->fd, (struct sockaddr *)&any, sizeof any) ||
        epoll_ctl(poller, EPOLL_CTL_ADD, e->fd,
                  &(struct epoll_event){.events = EPOLLIN, .data.ptr = e})) {
        perror("relay");
        exit(1);
    }
    return e;
}

static int same(const struct sockaddr_in *a, const struct sockaddr_in *b)
{
    return a->sin_port == b->sin_port && a->sin_addr.s_addr == b->sin_addr.s_addr;
}

static struct end *session_of(const struct sockaddr_in *client)
{
    struct end *e = clients;
    while (e && !same(&e->peer, client))
        e = e->next;
    if (!e) {
        e = make_end(TO_SERVER);
        e->peer = *client;
        e->next = clients;
        clients = e;
    }
    return e;
}

static struct end *transfer_of(struct end *session, const struct sockaddr_in *tid)
{
    struct end *e = session->others;
    while (e && !same(&e->peer, tid))
        e = e->next;
    if (!e) {
        e = make_end(TO_CLIENT);
        e->peer = *tid;
        e->session = session;
        e->next = session->others;
        session->others = e;
    }
    return e;
}

static void receive(struct end *e)
{
    static unsigned char content[LARGEST];

    for (int i = 0; i < ROUND; i++) {
        struct sockaddr_in from;
        socklen_t size = sizeof from;
        ssize_t length = recvfrom(e->fd, content, sizeof content, MSG_DONTWAIT,
                                  (struct sockaddr *)&from, &size);
        if (length < 0)
            return;
        if (e->kind == REQUESTS)
            pass(UP, session_of(&from)->fd, &server, content, length);
        else if (e->kind == TO_SERVER)
            pass(DOWN, transfer_of(e, &from)->fd, &e->peer, content, length);
        else if (same(&from, &e->session->peer))
            pass(UP, e->session->fd, &e->peer, content, length);
    }
}

static int usage(void)
{
    fprintf(stderr, "usage: relay [-l LOSS] [-r REPEAT] [-o REORDER] [-d ONE_WAY_US] [-s SEED] "
                    "HOST PORT\n");
    return 2;
}

int main(int argc, char **argv)
{
    struct epoll_event events[EVENTS];
    struct sockaddr_in own;
    struct rlimit descriptors;
    socklen_t size = sizeof own;
    struct end *requests;
    int option;

    while ((option = getopt(argc, argv, "l:r:o:d:s:")) != -1)
        switch (option) {
        case 'l': loss = atof(optarg); break;
        case 'r': repeat = atof(optarg); break;
        case 'o': reorder = atof(optarg); break;
        case 'd': delay = atoll(optarg) * 1000; break;
        case 's': chance[UP] = strtoull(optarg, NULL, 10) * 2 + 1; break;
        default: return usage();
        }
    server.sin_family = AF_INET;
    if (argc - optind != 2 || inet_pton(AF_INET, argv[optind], &server.sin_addr) != 1)
        return usage();
    server.sin_port = htons(atoi(argv[optind + 1]));
    chance[DOWN] = ~chance[UP];
    getrlimit(RLIMIT_NOFILE, &descriptors);
    descriptors.rlim_cur = descriptors.rlim_max;
    setrlimit(RLIMIT_NOFILE, &descriptors);
    prctl(PR_SET_TIMERSLACK, 1); /* the default of 50 us is half of the shortest one-way delay */

    poller = epoll_create1(0);
    requests = make_end(REQUESTS);
    getsockname(requests->fd, (struct sockaddr *)&own, &size);
    printf("%d\n", ntohs(own.sin_port));
    fflush(stdout);
    epoll_ctl(poller, EPOLL_CTL_ADD, STDIN_FILENO,
              &(struct epoll_event){.events = EPOLLIN, .data.ptr = NULL});
    for (;;) {
        int64_t wait = heap_count ? heap[0]->due - clock_ns() : 1000000000;
        wait = wait < 0 ? 0 : wait;
        struct timespec timeout = {wait / 1000000000, wait % 1000000000};
        int count = epoll_pwait2(poller, events, EVENTS, &timeout, NULL);
        for (int i = 0; i < count; i++) {
            if (!events[i].data.ptr) {
                printf("{\"up\": %llu, \"down\": %llu, \"dropped_up\": %llu, "
                       "\"dropped_down\": %llu, \"repeated\": %llu, \"reordered\": %llu}\n",
                       (unsigned long long)passed[UP], (unsigned long long)passed[DOWN],
                       (unsigned long long)dropped[UP], (unsigned long long)dropped[DOWN],
                       (unsigned long long)repeated, (unsigned long long)reordered);
                return 0;
            }
            receive(events[i].data.ptr);
        }
        while (heap_count && heap[0]->due <= clock_ns()) {
            struct datagram *d = pop();
            sendto(d->fd, d->content, d->length, 0, (struct sockaddr *)&d->to, sizeof d->to);
            free(d);
        }
    }
}
