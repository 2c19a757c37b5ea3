/* Records, in order, the calls of a process that change or sync the files of one directory.
 *
 * Loaded with LD_PRELOAD. TORTURE_DIRECTORY is the directory, TORTURE_LOG the log. A record is
 *
 *     kind (1 byte), file (8), offset (8), length (8), name length (4), name, second name length (4), name, content
 *
 * in the machine's byte order. Kinds: C file created, O existing file opened, W written, T truncated, S synced,
 * D directory synced, U name removed, R renamed, L linked. A lock is held around each call and its record, so that the
 * records are in the order of the calls.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { FILES = 4096 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char directory[PATH_MAX];
static size_t directory_length;
static int log_descriptor = -1;
static struct { dev_t device; ino_t inode; } files[FILES];
static uint64_t known;

__attribute__((constructor)) static void begin(void)
{
    const char *where = getenv("TORTURE_DIRECTORY"), *log = getenv("TORTURE_LOG");
    if (!where || !log || strlen(where) >= sizeof directory)
        return;
    strcpy(directory, where);
    directory_length = strlen(directory);
    log_descriptor = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static void put(const void *bytes, size_t length)
{
    while (length) {
        ssize_t done = syscall(SYS_write, log_descriptor, bytes, length);
        if (done <= 0)
            abort();
        bytes = (const char *)bytes + done;
        length -= (size_t)done;
    }
}

static void record(char kind, uint64_t file, uint64_t offset, const char *name, const char *second,
                   const void *content, uint64_t length)
{
    uint32_t first = name ? (uint32_t)strlen(name) : 0, other = second ? (uint32_t)strlen(second) : 0;
    char head[1 + 3 * 8];
    head[0] = kind;
    memcpy(head + 1, &file, 8);
    memcpy(head + 9, &offset, 8);
    memcpy(head + 17, &length, 8);
    put(head, sizeof head);
    put(&first, 4);
    put(name, first);
    put(&other, 4);
    put(second, other);
    put(content, content ? length : 0);
}

/* Returns the part of a path below the directory, or NULL for a path elsewhere. */
static const char *within(const char *path)
{
    if (log_descriptor < 0 || !path || strncmp(path, directory, directory_length) || path[directory_length] != '/')
        return NULL;
    return path + directory_length + 1;
}

/* The same for a path relative to an open directory; `space` has PATH_MAX bytes for the whole path. */
static const char *within_at(int at, const char *path, char *space)
{
    char link[64];
    if (at == AT_FDCWD || !path || path[0] == '/')
        return within(path);
    snprintf(link, sizeof link, "/proc/self/fd/%d", at);
    ssize_t length = readlink(link, space, PATH_MAX - 1);
    if (length <= 0 || (size_t)length + strlen(path) + 2 > PATH_MAX)
        return NULL;
    space[length] = '/';
    strcpy(space + length + 1, path);
    return within(space);
}

/* Returns the number of an open file, or -1 if it is not recorded. The newest file of an inode counts. */
static int64_t number_of(int descriptor)
{
    struct stat status;
    if (log_descriptor < 0 || fstat(descriptor, &status))
        return -1;
    for (uint64_t file = known; file-- > 0;)
        if (files[file].device == status.st_dev && files[file].inode == status.st_ino)
            return (int64_t)file;
    return -1;
}

static void follow(int descriptor, const char *name, int made, int flags)
{
    struct stat status;
    if (fstat(descriptor, &status) || !S_ISREG(status.st_mode))
        return;
    int64_t file = made ? -1 : number_of(descriptor);
    if (file < 0) {
        if (known == FILES)
            abort();
        file = (int64_t)known++;
        files[file].device = status.st_dev;
        files[file].inode = status.st_ino;
        record(made ? 'C' : 'O', (uint64_t)file, 0, name, NULL, NULL, 0);
    }
    if (!made && (flags & O_TRUNC))
        record('T', (uint64_t)file, 0, NULL, NULL, NULL, 0);
}

static int open_recorded(int directory, const char *path, int flags, mode_t mode)
{
    char space[PATH_MAX];
    const char *name = within_at(directory, path, space);
    if (!name)
        return (int)syscall(SYS_openat, directory, path, flags, mode);
    pthread_mutex_lock(&lock);
    int made = (flags & O_CREAT) && syscall(SYS_faccessat, directory, path, F_OK);
    int descriptor = (int)syscall(SYS_openat, directory, path, flags, mode), error = errno;
    if (descriptor >= 0)
        follow(descriptor, name, made, flags);
    pthread_mutex_unlock(&lock);
    errno = error;
    return descriptor;
}

#define OPEN(function, parameters, directory)                                                                 \
    int function parameters                                                                                   \
    {                                                                                                         \
        va_list more;                                                                                         \
        va_start(more, flags);                                                                                \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;                               \
        va_end(more);                                                                                         \
        return open_recorded(directory, path, flags, mode);                                                   \
    }

OPEN(open, (const char *path, int flags, ...), AT_FDCWD)
OPEN(open64, (const char *path, int flags, ...), AT_FDCWD)
OPEN(openat, (int directory, const char *path, int flags, ...), directory)
OPEN(openat64, (int directory, const char *path, int flags, ...), directory)

/* Makes a call, and records it if its file is recorded. */
#define RECORDED(type, descriptor, call, ...)                                                                 \
    pthread_mutex_lock(&lock);                                                                                \
    int64_t file = number_of(descriptor);                                                                     \
    type done = (type)(call);                                                                                 \
    int error = errno;                                                                                        \
    if (file >= 0 && done >= 0)                                                                               \
        record(__VA_ARGS__);                                                                                  \
    pthread_mutex_unlock(&lock);                                                                              \
    errno = error;                                                                                            \
    return done

ssize_t pwrite(int descriptor, const void *bytes, size_t length, off_t offset)
{
    RECORDED(ssize_t, descriptor, syscall(SYS_pwrite64, descriptor, bytes, length, offset),
             'W', (uint64_t)file, (uint64_t)offset, NULL, NULL, bytes, (uint64_t)done);
}

ssize_t pwrite64(int descriptor, const void *bytes, size_t length, off_t offset)
{
    return pwrite(descriptor, bytes, length, offset);
}

ssize_t write(int descriptor, const void *bytes, size_t length)
{
    RECORDED(ssize_t, descriptor, syscall(SYS_write, descriptor, bytes, length),
             'W', (uint64_t)file, (uint64_t)(lseek(descriptor, 0, SEEK_CUR) - done), NULL, NULL, bytes,
             (uint64_t)done);
}

int ftruncate(int descriptor, off_t length)
{
    RECORDED(int, descriptor, syscall(SYS_ftruncate, descriptor, length),
             'T', (uint64_t)file, (uint64_t)length, NULL, NULL, NULL, 0);
}

int ftruncate64(int descriptor, off_t length)
{
    return ftruncate(descriptor, length);
}

static int sync_recorded(long number, int descriptor)
{
    struct stat status, own;
    if (log_descriptor >= 0 && !fstat(descriptor, &status) && S_ISDIR(status.st_mode) && !stat(directory, &own)
        && own.st_ino == status.st_ino) {
        pthread_mutex_lock(&lock);
        int done = (int)syscall(number, descriptor);
        record('D', 0, 0, NULL, NULL, NULL, 0);
        pthread_mutex_unlock(&lock);
        return done;
    }
    RECORDED(int, descriptor, syscall(number, descriptor), 'S', (uint64_t)file, 0, NULL, NULL, NULL, 0);
}

int fsync(int descriptor)
{
    return sync_recorded(SYS_fsync, descriptor);
}

int fdatasync(int descriptor)
{
    return sync_recorded(SYS_fdatasync, descriptor);
}

static int change_names(char kind, int from_at, const char *from, int to_at, const char *to, long number, int flags)
{
    char space[2][PATH_MAX];
    const char *first = within_at(from_at, from, space[0]), *second = to ? within_at(to_at, to, space[1]) : NULL;
    pthread_mutex_lock(&lock);
    int done = to ? (int)syscall(number, from_at, from, to_at, to, flags)
                  : (int)syscall(number, from_at, from, flags);
    int error = errno;
    if (!done && (first || second) && (to || !(flags & AT_REMOVEDIR))) {
        if (!first || (to && !second))
            abort(); /* moving a file into or out of the directory is not supported */
        record(kind, 0, 0, first, second, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

int unlink(const char *path)
{
    return change_names('U', AT_FDCWD, path, AT_FDCWD, NULL, SYS_unlinkat, 0);
}

int unlinkat(int at, const char *path, int flags)
{
    return change_names('U', at, path, AT_FDCWD, NULL, SYS_unlinkat, flags);
}

int rename(const char *from, const char *to)
{
    return change_names('R', AT_FDCWD, from, AT_FDCWD, to, SYS_renameat2, 0);
}

int renameat(int from_at, const char *from, int to_at, const char *to)
{
    return change_names('R', from_at, from, to_at, to, SYS_renameat2, 0);
}

int renameat2(int from_at, const char *from, int to_at, const char *to, unsigned flags)
{
    return change_names('R', from_at, from, to_at, to, SYS_renameat2, (int)flags);
}

int link(const char *from, const char *to)
{
    return change_names('L', AT_FDCWD, from, AT_FDCWD, to, SYS_linkat, 0);
}

int linkat(int from_at, const char *from, int to_at, const char *to, int flags)
{
    return change_names('L', from_at, from, to_at, to, SYS_linkat, flags);
}
