/* LD_PRELOAD: syncs fail with EIO while the file $FSYNC_FAILS exists and the path of what is synced
 * holds its content. Each sync is a line in $FSYNC_LOG: `failed PATH`, or `AGAIN PATH` for one more
 * on a descriptor whose sync failed: it would succeed, and prove nothing. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile char failed[65536];

static int (*real(const char *name))(int) { return (int (*)(int))dlsym(RTLD_NEXT, name); }

static void note(const char *what, const char *path) {
    char line[4400];
    int size = snprintf(line, sizeof line, "%s %s\n", what, path);
    int log = open(getenv("FSYNC_LOG"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log >= 0 && write(log, line, size) == size) real("close")(log);
}

static int sync_with(const char *name, int fd) {
    char link[64], path[4200] = "", wanted[256] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (readlink(link, path, sizeof path - 1) < 0) return real(name)(fd);
    if (fd < (int)sizeof failed && failed[fd]) note("AGAIN", path);
    int control = open(getenv("FSYNC_FAILS"), O_RDONLY | O_CLOEXEC);
    if (control >= 0) {
        ssize_t size = read(control, wanted, sizeof wanted - 1);
        real("close")(control);
        if (size > 0 && strstr(path, wanted)) {
            note("failed", path);
            if (fd < (int)sizeof failed) failed[fd] = 1;
            errno = EIO;
            return -1;
        }
    }
    return real(name)(fd);
}

int fsync(int fd) { return sync_with("fsync", fd); }
int fdatasync(int fd) { return sync_with("fdatasync", fd); }
int syncfs(int fd) { return sync_with("syncfs", fd); }

int close(int fd) {
    if (fd >= 0 && fd < (int)sizeof failed) failed[fd] = 0;
    return real("close")(fd);
}
