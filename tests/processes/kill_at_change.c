/* A preloaded library that ends its process right before the N-th call that changes a file.
 *
 * It sees the calls of every library in the process, also those of delta-rs, Arrow and DuckDB. Of a
 * write the first half is done, so that a half-written file stays. Only paths below the two folders
 * of `watch` count. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define KILLED 77
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static char folders[2][PATH_MAX];
static atomic_long count;
static long last;

void watch(const char *first, const char *second, long number) {
    strncpy(folders[0], first, PATH_MAX - 1);
    strncpy(folders[1], second, PATH_MAX - 1);
    count = 0;
    last = number;
}

long changes(void) { return count; }

/* 1 if the process has to end now. */
static int is_last(void) { return atomic_fetch_add(&count, 1) + 1 == last; }

void change(void) {
    if (is_last()) _exit(KILLED);
}

static int is_watched(const char *path) {
    for (int i = 0; i < 2; i++) {
        size_t length = strlen(folders[i]);
        if (length && strncmp(path, folders[i], length) == 0) return 1;
    }
    return 0;
}

static int names_watched(int folder, const char *path) {
    if (!folders[0][0]) return 0;
    if (path[0] == '/' || folder == AT_FDCWD) return is_watched(path);
    char link[64], target[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    ssize_t length = readlink(link, target, sizeof target - 1);
    if (length < 0) return 0;
    target[length] = 0;
    return is_watched(target);
}

static void before(int folder, const char *path) {
    if (names_watched(folder, path)) change();
}

#define IS_CHANGE(flags) ((flags) & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC))

#define OPEN(name)                                              \
    int name(const char *path, int flags, ...) {                \
        va_list more;                                           \
        va_start(more, flags);                                  \
        mode_t mode = va_arg(more, mode_t);                     \
        va_end(more);                                           \
        if (IS_CHANGE(flags)) before(AT_FDCWD, path);           \
        return REAL(name)(path, flags, mode);                   \
    }
#define OPENAT(name)                                            \
    int name(int folder, const char *path, int flags, ...) {    \
        va_list more;                                           \
        va_start(more, flags);                                  \
        mode_t mode = va_arg(more, mode_t);                     \
        va_end(more);                                           \
        if (IS_CHANGE(flags)) before(folder, path);             \
        return REAL(name)(folder, path, flags, mode);           \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

int link(const char *from, const char *to) {
    before(AT_FDCWD, to);
    return REAL(link)(from, to);
}

int linkat(int from_folder, const char *from, int folder, const char *to, int flags) {
    before(folder, to);
    return REAL(linkat)(from_folder, from, folder, to, flags);
}

int rename(const char *from, const char *to) {
    before(AT_FDCWD, to);
    return REAL(rename)(from, to);
}

int renameat(int from_folder, const char *from, int folder, const char *to) {
    before(folder, to);
    return REAL(renameat)(from_folder, from, folder, to);
}

int unlink(const char *path) {
    before(AT_FDCWD, path);
    return REAL(unlink)(path);
}

int unlinkat(int folder, const char *path, int flags) {
    before(folder, path);
    return REAL(unlinkat)(folder, path, flags);
}

int mkdir(const char *path, mode_t mode) {
    before(AT_FDCWD, path);
    return REAL(mkdir)(path, mode);
}

int rmdir(const char *path) {
    before(AT_FDCWD, path);
    return REAL(rmdir)(path);
}

int truncate(const char *path, off_t length) {
    before(AT_FDCWD, path);
    return REAL(truncate)(path, length);
}

ssize_t write(int file, const void *data, size_t size) {
    if (file > 2 && names_watched(file, "") && is_last()) {
        REAL(write)(file, data, size / 2);
        _exit(KILLED);
    }
    return REAL(write)(file, data, size);
}

#define PWRITE(name, offset_t)                                                    \
    ssize_t name(int file, const void *data, size_t size, offset_t offset) {      \
        if (names_watched(file, "") && is_last()) {                               \
            REAL(name)(file, data, size / 2, offset);                             \
            _exit(KILLED);                                                        \
        }                                                                         \
        return REAL(name)(file, data, size, offset);                              \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)
