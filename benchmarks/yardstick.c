/* The yardstick of the benchmarks: a TFTP server that does the minimum.
 *
 * Files are read into memory before the first request, and uploads stay there under their names.
 * It has no timers, no logs and no checks: a lost datagram is not sent again. It has what a TFTP
 * server needs (RFC 1350, 2347, 2348, 7440): a socket, and so a TID, for each transfer, options, and
 * windows, each of which is sent by one sendmsg().
 *
 * usage: yardstick HOST PORT FOLDER */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

enum { RRQ = 1, WRQ, DATA, ACK, ERROR, OACK };
enum { LARGEST = 65507, SEGMENTS = 64, EVENTS = 256, TABLE = 1 << 16, PATH = 4096 };

struct file {
    char *name;
    unsigned char *content;
    size_t size, room;
};

struct transfer {
    int fd, writing;
    uint32_t blksize, window, count;
    uint64_t next; /* read: the first block not acknowledged; write: the block expected */
    struct file *file;
    struct transfer *spare;
};

static struct file table[TABLE];
static struct transfer *spares;
static int poller;
static unsigned char input[1 << 16];

static void put16(unsigned char *p, unsigned value)
{
    p[0] = value >> 8;
    p[1] = value;
}

static unsigned get16(const unsigned char *p)
{
    return p[0] << 8 | p[1];
}

/* Return the entry of the named file in the table, or the free entry for it. */
static struct file *find(const char *name)
{
    uint32_t hash = 2166136261u;
    for (const char *p = name; *p; p++)
        hash = (hash ^ (unsigned char)*p) * 16777619u;
    while (table[hash % TABLE].name && strcmp(table[hash % TABLE].name, name))
        hash++;
    return &table[hash % TABLE];
}

static void load(const char *folder, const char *below)
{
    char path[PATH], name[PATH];
    struct dirent *entry;
    struct stat status;
    DIR *listing;

    snprintf(path, sizeof path, "%s/%s", folder, below);
    listing = opendir(path);
    while (listing && (entry = readdir(listing))) {
        if (entry->d_name[0] == '.')
            continue;
        if (snprintf(name, sizeof name, "%s%s", below, entry->d_name) >= PATH - 1 ||
            snprintf(path, sizeof path, "%s/%s", folder, name) >= PATH || stat(path, &status))
            continue;
        if (S_ISDIR(status.st_mode)) {
            strcat(name, "/");
            load(folder, name);
            continue;
        }
        struct file *file = find(name);
        int fd = open(path, O_RDONLY);
        file->name = strdup(name);
        file->size = file->room = status.st_size;
        file->content = malloc(file->size + 1);
        for (size_t at = 0; at < file->size;) {
            ssize_t length = read(fd, file->content + at, file->size - at);
            if (length <= 0) {
                perror(path);
                exit(1);
            }
            at += length;
        }
        close(fd);
    }
    if (listing)
        closedir(listing);
}

static void finish(struct transfer *t)
{
    close(t->fd);
    t->spare = spares;
    spares = t;
}

static void acknowledge(struct transfer *t)
{
    unsigned char packet[4];
    put16(packet, ACK);
    put16(packet + 2, t->next - 1);
    send(t->fd, packet, 4, 0);
    t->count = 0;
}

static void send_window(struct transfer *t)
{
    static unsigned char headers[SEGMENTS][4];
    static struct iovec vectors[SEGMENTS * 2];
    static char control[CMSG_SPACE(sizeof(uint16_t))];
    uint64_t end = t->file->size / t->blksize + 1, block = t->next;
    uint64_t last = t->next + t->window - 1 < end ? t->next + t->window - 1 : end;
    unsigned each = LARGEST / (t->blksize + 4);

    each = each < 1 ? 1 : each > SEGMENTS ? SEGMENTS : each;
    while (block <= last) {
        struct msghdr message = {.msg_iov = vectors};
        unsigned used = 0;
        for (; block <= last && used < each; used++, block++) {
            size_t offset = (block - 1) * t->blksize, left = t->file->size - offset;
            put16(headers[used], DATA);
            put16(headers[used] + 2, block);
            vectors[used * 2] = (struct iovec){headers[used], 4};
            vectors[used * 2 + 1] =
                (struct iovec){t->file->content + offset, left < t->blksize ? left : t->blksize};
        }
        message.msg_iovlen = used * 2;
        if (used > 1) {
            message.msg_control = control;
            message.msg_controllen = sizeof control;
            struct cmsghdr *c = CMSG_FIRSTHDR(&message);
            *c = (struct cmsghdr){.cmsg_level = SOL_UDP,
                                  .cmsg_type = UDP_SEGMENT,
                                  .cmsg_len = CMSG_LEN(sizeof(uint16_t))};
            *(uint16_t *)CMSG_DATA(c) = t->blksize + 4;
        }
        sendmsg(t->fd, &message, 0);
    }
}

/* Store one block of an upload; return whether more blocks follow. */
static int take_data(struct transfer *t, const unsigned char *p, size_t length)
{
    struct file *file = t->file;
    size_t size = length - 4;

    if (get16(p) != DATA || get16(p + 2) != (uint16_t)t->next)
        return 1;
    if (file->size + size > file->room) {
        file->room = (file->size + size) * 2;
        file->content = realloc(file->content, file->room);
    }
    memcpy(file->content + file->size, p + 4, size);
    file->size += size;
    t->next++;
    if (size < t->blksize) {
        acknowledge(t);
        finish(t);
        return 0;
    }
    if (++t->count == t->window)
        acknowledge(t);
    return 1;
}

static void receive_blocks(struct transfer *t)
{
    char control[CMSG_SPACE(sizeof(int))];
    struct iovec vector = {input, sizeof input};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control};

    for (;;) {
        message.msg_controllen = sizeof control;
        ssize_t left = recvmsg(t->fd, &message, MSG_DONTWAIT);
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        ssize_t segment = left;
        unsigned char *p = input;

        if (left <= 0)
            return;
        if (c && c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO)
            segment = *(int *)CMSG_DATA(c);
        for (; left > 0; p += segment, left -= segment)
            if (!take_data(t, p, left < segment ? left : segment))
                return;
        if (t->window == 1)
            return; /* in lock step no other datagram can be there */
    }
}

static void receive_ack(struct transfer *t)
{
    ssize_t length = recv(t->fd, input, sizeof input, MSG_DONTWAIT);

    if (length < 4)
        return;
    if (get16(input) == ERROR) {
        finish(t);
        return;
    }
    t->next += (uint16_t)(get16(input + 2) - (uint16_t)(t->next - 1));
    if (t->next > t->file->size / t->blksize + 1)
        finish(t);
    else
        send_window(t);
}

static void begin(const struct sockaddr_in *peer, size_t length)
{
    unsigned char answer[64] = {0, OACK};
    size_t at = 2;
    unsigned opcode = get16(input);
    char *stop = (char *)input + length, *name = (char *)input + 2, *option;
    struct file *file = find(name);
    struct transfer *t = spares;
    int on = 1, size = 4 << 20;

    if (opcode != RRQ && !(opcode == WRQ && (file->name || (file->name = strdup(name)))))
        return;
    if (t)
        spares = t->spare;
    else
        t = malloc(sizeof *t);
    *t = (struct transfer){.writing = opcode == WRQ, .blksize = 512, .window = 1, .next = 1, .file = file};
    t->fd = socket(AF_INET, SOCK_DGRAM, 0);
    connect(t->fd, (const struct sockaddr *)peer, sizeof *peer);
    if (!file->name) {
        send(t->fd, "\0\5\0\1none", 9, 0);
        finish(t);
        return;
    }
    option = name + strlen(name) + 1;
    option += strlen(option) + 1;
    while (option < stop) {
        char *value = option + strlen(option) + 1;
        uint32_t *place = !strcasecmp(option, "blksize")      ? &t->blksize
                          : !strcasecmp(option, "windowsize") ? &t->window
                                                              : NULL;
        if (place && at < sizeof answer - 32) {
            *place = atoi(value);
            at += sprintf((char *)answer + at, "%s", option) + 1;
            at += sprintf((char *)answer + at, "%u", *place) + 1;
        }
        option = value + strlen(value) + 1;
    }
    epoll_ctl(poller, EPOLL_CTL_ADD, t->fd,
              &(struct epoll_event){.events = EPOLLIN, .data.ptr = t});
    if (t->writing) {
        file->size = 0;
        if (t->window > 1) {
            setsockopt(t->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
            setsockopt(t->fd, SOL_UDP, UDP_GRO, &on, sizeof on);
        }
    }
    if (at > 2)
        send(t->fd, answer, at, 0);
    else if (t->writing)
        acknowledge(t);
    else
        send_window(t);
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET}, peer;
    struct epoll_event events[EVENTS];
    struct rlimit descriptors;
    int requests = socket(AF_INET, SOCK_DGRAM, 0), size = 4 << 20;

    if (argc != 4 || inet_pton(AF_INET, argv[1], &address.sin_addr) != 1) {
        fprintf(stderr, "usage: yardstick HOST PORT FOLDER\n");
        return 2;
    }
    address.sin_port = htons(atoi(argv[2]));
    load(argv[3], "");
    getrlimit(RLIMIT_NOFILE, &descriptors);
    descriptors.rlim_cur = descriptors.rlim_max;
    setrlimit(RLIMIT_NOFILE, &descriptors);
    setsockopt(requests, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    if (bind(requests, (struct sockaddr *)&address, sizeof address)) {
        perror("bind");
        return 1;
    }
    poller = epoll_create1(0);
    epoll_ctl(poller, EPOLL_CTL_ADD, requests,
              &(struct epoll_event){.events = EPOLLIN, .data.ptr = NULL});
    for (;;) {
        int count = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            struct transfer *t = events[i].data.ptr;
            if (t && t->writing) {
                receive_blocks(t);
            } else if (t) {
                receive_ack(t);
            } else {
                socklen_t length = sizeof peer;
                ssize_t got = recvfrom(requests, input, sizeof input - 1, MSG_DONTWAIT,
                                       (struct sockaddr *)&peer, &length);
                if (got > 4)
                    begin(&peer, got);
            }
        }
    }
}
