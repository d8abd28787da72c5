/* Counts the durable system calls of a whole tree of processes, and strikes at one of them.
 *
 * Built as a shared object and named in LD_PRELOAD. One page, the file in KP_PAGE, is mapped by
 * every process of the tree: it says where to strike and how, counts, and knows them all. A process
 * that is started with another environment gets both variables from our execve.
 *
 * Strikes: the whole tree at once (as a power cut that loses no cache), the one process that came
 * to the point, or an error given back instead of the call. After a strike at the tree nobody makes
 * a durable call any more, not even those whom SIGKILL has yet to reach.
 *
 * syscalls.py writes the head of the page and reads the rest: keep `struct page` as it is there.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define MOST_RECORDS 16384
#define MOST_PROCESSES 8192

enum mode { TREE, SELF, ERROR };          /* what a strike does */
enum kind { SHRINKS, GROWS, STARTS };     /* a call needs no room, may need some, is a start */
enum order { GO_ON, STRIKE_AFTER, FAIL }; /* what a point tells its call */

struct record {
    int64_t point;
    int32_t pid;
    char role; /* d: the daemon, g: a git of its own, a: an attempt, t: a test */
    char call[19], program[24], path[200];
};

struct page {
    int64_t at, calls; /* the first point that is struck; with ERROR, how many are */
    int32_t mode, after, error, trace;
    _Atomic int64_t count, struck;
    _Atomic int32_t processes, execing;
    struct {
        _Atomic int64_t pid;
        _Atomic uint64_t started;
    } process[MOST_PROCESSES];
    struct record record[MOST_RECORDS];
};

static struct page *page;
static char role = 'd';
static char own_library[4200], own_page[4200];

/* ---- the real calls ------------------------------------------------------------------------ */

#define REAL(name) static __typeof__(&name) real_##name
REAL(open); REAL(openat); REAL(creat); REAL(fopen);
REAL(rename); REAL(renameat); REAL(renameat2); REAL(link); REAL(linkat); REAL(symlink);
REAL(symlinkat); REAL(unlink); REAL(unlinkat); REAL(rmdir); REAL(mkdir); REAL(mkdirat);
REAL(fsync); REAL(fdatasync); REAL(syncfs); REAL(sync_file_range); REAL(ftruncate);
REAL(truncate); REAL(write); REAL(writev); REAL(pwrite); REAL(copy_file_range); REAL(sendfile);
REAL(execve); REAL(posix_spawn); REAL(posix_spawnp);

static void find_real(void) {
#define FIND(name) real_##name = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
    FIND(open); FIND(openat); FIND(creat); FIND(fopen);
    FIND(rename); FIND(renameat); FIND(renameat2); FIND(link); FIND(linkat); FIND(symlink);
    FIND(symlinkat); FIND(unlink); FIND(unlinkat); FIND(rmdir); FIND(mkdir); FIND(mkdirat);
    FIND(fsync); FIND(fdatasync); FIND(syncfs); FIND(sync_file_range); FIND(ftruncate);
    FIND(truncate); FIND(write); FIND(writev); FIND(pwrite); FIND(copy_file_range); FIND(sendfile);
    FIND(execve); FIND(posix_spawn); FIND(posix_spawnp);
}

/* Constructors of other libraries may run before ours. */
#define THE(name) (real_##name ? real_##name : (find_real(), real_##name))

/* ---- processes ----------------------------------------------------------------------------- */

static uint64_t started(int pid) {
    char name[40], text[1024];
    snprintf(name, sizeof name, "/proc/%d/stat", pid);
    int fd = THE(open)(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t size = read(fd, text, sizeof text - 1);
    close(fd);
    if (size <= 0) return 0;
    text[size] = 0;
    char *field = strrchr(text, ')');
    for (int skip = 0; field && skip < 20; skip++) field = strchr(field + 1, ' ');
    return field ? strtoull(field, NULL, 10) : 0;
}

static void die(void) {
    if (getpid() == 1) _exit(128 + SIGKILL); /* the first in a box cannot kill itself */
    for (;;) kill(getpid(), SIGKILL);
}

static void strike(void) {
    int last = page->mode == TREE ? page->processes : 0;
    for (int i = 0; i < last; i++) {
        int pid = (int)page->process[i].pid;
        uint64_t known = page->process[i].started;
        if (known && pid != getpid() && started(pid) == known) kill(pid, SIGKILL);
    }
    die();
}

static void strike_after(void) {
    page->struck = page->at;
    strike();
}

static int tree_is_dead(void) { return page->mode == TREE && page->struck; }

/* Listed first, asked afterwards. A strike does it the other way round, so one sees the other. */
static void enlist(void) {
    if (!page) return;
    int i = page->processes++;
    if (i >= MOST_PROCESSES) abort(); /* a sweep that loses sight of a process proves nothing */
    page->process[i].pid = getpid();
    page->process[i].started = started(getpid());
    if (tree_is_dead()) die();
}

static char role_of(const char *mark) { /* <workspace>/<kind>/<subject>/<number> */
    const char *kind = mark ? strchr(mark, '/') : NULL;
    return kind && kind[1] ? kind[1] : 'd';
}

__attribute__((constructor)) static void begin(void) {
    find_real();
    const char *name = getenv("KP_PAGE"), *library = getenv("LD_PRELOAD");
    if (!name || !library) return;
    snprintf(own_page, sizeof own_page, "KP_PAGE=%s", name);
    snprintf(own_library, sizeof own_library, "LD_PRELOAD=%s", library);
    int fd = THE(open)(name, O_RDWR | O_CLOEXEC);
    if (fd < 0) return;
    void *found = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (found == MAP_FAILED) abort();
    page = found;
    role = role_of(getenv("ALLUVIUM_RUN"));
    pthread_atfork(NULL, NULL, enlist);
    if (page->execing == getpid()) strike_after();
    enlist();
}

/* ---- points -------------------------------------------------------------------------------- */

static void note(int64_t point, const char *call, const char *path, int fd) {
    if (point >= MOST_RECORDS) return;
    struct record *record = &page->record[point];
    record->pid = getpid();
    record->role = role;
    snprintf(record->call, sizeof record->call, "%s", call);
    snprintf(record->program, sizeof record->program, "%s", program_invocation_short_name);
    if (path) snprintf(record->path, sizeof record->path, "%s", path);
    else {
        char link_name[40];
        snprintf(link_name, sizeof link_name, "/proc/self/fd/%d", fd);
        ssize_t size = readlink(link_name, record->path, sizeof record->path - 1);
        record->path[size < 0 ? 0 : size] = 0;
    }
    record->point = point;
}

static enum order point(enum kind kind, const char *call, const char *path, int fd) {
    if (!page) return GO_ON;
    if (tree_is_dead()) die();
    int errors = page->mode == ERROR;
    if (errors && role != 'd' && role != 'g') return GO_ON;
    if (errors && page->error == ENOSPC && kind != GROWS) return GO_ON;
    int64_t now = ++page->count;
    int hit = page->at && now >= page->at && now < page->at + (errors ? page->calls : 1);
    if (hit || page->trace) note(now, call, path, fd);
    if (!hit) return GO_ON;
    if (!errors && page->after) return STRIKE_AFTER;
    page->struck = now;
    if (!errors) strike();
    errno = page->error;
    return FAIL;
}

/* A regular file that has a name: what goes into memory, pipes and sockets does not last. */
static int lasts(int fd) {
    struct stat facts;
    return page && !fstat(fd, &facts) && S_ISREG(facts.st_mode) && facts.st_nlink > 0;
}

#define POINT(kind, type, name, path, fd, bad, call)                                               \
    enum order order = point(kind, name, path, fd);                                                \
    if (order == FAIL) return bad;                                                                 \
    type result = call;                                                                            \
    if (order == STRIKE_AFTER) strike_after();                                                     \
    return result

#define WRAP(kind, name, parameters, path, fd, call)                                               \
    int name parameters { POINT(kind, int, #name, path, fd, -1, THE(name) call); }

WRAP(SHRINKS, unlink, (const char *p), p, -1, (p))
WRAP(SHRINKS, unlinkat, (int d, const char *p, int f), p, -1, (d, p, f))
WRAP(SHRINKS, rmdir, (const char *p), p, -1, (p))
WRAP(GROWS, mkdir, (const char *p, mode_t m), p, -1, (p, m))
WRAP(GROWS, mkdirat, (int d, const char *p, mode_t m), p, -1, (d, p, m))
WRAP(GROWS, rename, (const char *a, const char *b), b, -1, (a, b))
WRAP(GROWS, renameat, (int d, const char *a, int e, const char *b), b, -1, (d, a, e, b))
WRAP(GROWS, renameat2, (int d, const char *a, int e, const char *b, unsigned f), b, -1,
     (d, a, e, b, f))
WRAP(GROWS, link, (const char *a, const char *b), b, -1, (a, b))
WRAP(GROWS, linkat, (int d, const char *a, int e, const char *b, int f), b, -1, (d, a, e, b, f))
WRAP(GROWS, symlink, (const char *a, const char *b), b, -1, (a, b))
WRAP(GROWS, symlinkat, (const char *a, int d, const char *b), b, -1, (a, d, b))
WRAP(GROWS, fsync, (int f), NULL, f, (f))
WRAP(GROWS, fdatasync, (int f), NULL, f, (f))
WRAP(GROWS, syncfs, (int f), NULL, f, (f))
WRAP(GROWS, sync_file_range, (int f, off64_t o, off64_t n, unsigned g), NULL, f, (f, o, n, g))
WRAP(GROWS, ftruncate, (int f, off_t n), NULL, f, (f, n))
WRAP(GROWS, truncate, (const char *p, off_t n), p, -1, (p, n))

ssize_t write(int f, const void *b, size_t n) {
    if (!lasts(f)) return THE(write)(f, b, n);
    POINT(GROWS, ssize_t, "write", NULL, f, -1, THE(write)(f, b, n));
}

ssize_t writev(int f, const struct iovec *v, int n) {
    if (!lasts(f)) return THE(writev)(f, v, n);
    POINT(GROWS, ssize_t, "writev", NULL, f, -1, THE(writev)(f, v, n));
}

ssize_t pwrite(int f, const void *b, size_t n, off_t o) {
    if (!lasts(f)) return THE(pwrite)(f, b, n, o);
    POINT(GROWS, ssize_t, "pwrite", NULL, f, -1, THE(pwrite)(f, b, n, o));
}

ssize_t copy_file_range(int f, off64_t *o, int t, off64_t *p, size_t n, unsigned g) {
    POINT(GROWS, ssize_t, "copy_file_range", NULL, t, -1, THE(copy_file_range)(f, o, t, p, n, g));
}

ssize_t sendfile(int t, int f, off_t *o, size_t n) {
    if (!lasts(t)) return THE(sendfile)(t, f, o, n);
    POINT(GROWS, ssize_t, "sendfile", NULL, t, -1, THE(sendfile)(t, f, o, n));
}

static mode_t mode_in(va_list rest, int flags) {
    return flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0;
}

#define MODE                                                                                       \
    va_list rest;                                                                                  \
    va_start(rest, flags);                                                                         \
    mode_t mode = mode_in(rest, flags);                                                            \
    va_end(rest)

int open(const char *p, int flags, ...) {
    MODE;
    if (!(flags & (O_CREAT | O_TRUNC))) return THE(open)(p, flags, mode);
    POINT(GROWS, int, "open", p, -1, -1, THE(open)(p, flags, mode));
}

int openat(int d, const char *p, int flags, ...) {
    MODE;
    if (!(flags & (O_CREAT | O_TRUNC))) return THE(openat)(d, p, flags, mode);
    POINT(GROWS, int, "openat", p, -1, -1, THE(openat)(d, p, flags, mode));
}

int creat(const char *p, mode_t m) {
    POINT(GROWS, int, "creat", p, -1, -1, THE(creat)(p, m));
}

FILE *fopen(const char *p, const char *how) {
    if (*how == 'r') return THE(fopen)(p, how);
    POINT(GROWS, FILE *, "fopen", p, -1, NULL, THE(fopen)(p, how));
}

/* On 64-bit systems these are the same calls under another name. */
_Static_assert(sizeof(off_t) == 8, "32-bit offsets are not provided for");
int open64(const char *, int, ...) __attribute__((alias("open")));
int openat64(int, const char *, int, ...) __attribute__((alias("openat")));
int creat64(const char *, mode_t) __attribute__((alias("creat")));
FILE *fopen64(const char *, const char *) __attribute__((alias("fopen")));
int ftruncate64(int, off64_t) __attribute__((alias("ftruncate")));
int truncate64(const char *, off64_t) __attribute__((alias("truncate")));
ssize_t sendfile64(int, int, off64_t *, size_t) __attribute__((alias("sendfile")));
ssize_t pwrite64(int, const void *, size_t, off64_t) __attribute__((alias("pwrite")));

/* ---- programs ------------------------------------------------------------------------------ */

static size_t length(char *const words[]) {
    size_t n = 0;
    while (words && words[n]) n++;
    return n;
}

/* Fill `with`, which has room for two more, from `from`. No memory is asked for and nothing of the
 * process is changed: after vfork all of it is the parent's. */
static void carry_on(char *const from[], char **with) {
    size_t n = 0;
    for (size_t i = 0; from && from[i]; i++)
        if (strncmp(from[i], "LD_PRELOAD=", 11) && strncmp(from[i], "KP_PAGE=", 8))
            with[n++] = from[i];
    with[n++] = own_library;
    with[n++] = own_page;
    with[n] = NULL;
}

int execve(const char *p, char *const argv[], char *const envp[]) {
    if (!page || access(p, X_OK)) return THE(execve)(p, argv, envp);
    char *with[length(envp) + 3];
    carry_on(envp, with);
    enum order order = point(STARTS, "execve", p, -1);
    if (order == FAIL) return -1;
    if (order == STRIKE_AFTER) page->execing = getpid(); /* the new program does it, first thing */
    return THE(execve)(p, argv, with);
}

#define SPAWN(name)                                                                                \
    int name(pid_t *pid, const char *p, const posix_spawn_file_actions_t *actions,                 \
             const posix_spawnattr_t *how, char *const argv[], char *const envp[]) {               \
        if (!page) return THE(name)(pid, p, actions, how, argv, envp);                           \
        char *with[length(envp) + 3];                                                              \
        carry_on(envp, with);                                                                      \
        POINT(STARTS, int, #name, p, -1, errno, THE(name)(pid, p, actions, how, argv, with));    \
    }
SPAWN(posix_spawn)
SPAWN(posix_spawnp)
