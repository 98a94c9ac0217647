/* Let the CPU time of ended children count: a library for LD_PRELOAD.
 *
 * A server that calls sigaction() to ignore SIGCHLD (SIG_IGN or SA_NOCLDWAIT) makes the system discard the CPU time of each
 * child that ends. With this library it waits for its children instead, so their times are added to its
 * cutime and cstime in /proc/PID/stat. For each child, the server then handles one more signal and one
 * more wait4(). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <sys/wait.h>

static void wait_for_children(int signum)
{
    int before = errno;

    (void)signum;
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
    errno = before;
}

int sigaction(int signum, const struct sigaction *action, struct sigaction *old)
{
    static int (*original)(int, const struct sigaction *, struct sigaction *);
    struct sigaction changed;

    if (!original)
        original = dlsym(RTLD_NEXT, "sigaction");
    if (signum == SIGCHLD && action &&
        (action->sa_handler == SIG_IGN || action->sa_flags & SA_NOCLDWAIT)) {
        changed = *action;
        changed.sa_handler = wait_for_children;
        changed.sa_flags = SA_RESTART | SA_NOCLDSTOP;
        action = &changed;
    }
    return original(signum, action, old);
}
