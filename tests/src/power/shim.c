/*
 * A power cut, simulated: a library to preload that remembers what a process changed under one
 * folder since the last sync that covers it, and takes it back when the power goes.
 *
 * What a sync covers: fsync and fdatasync cover the bytes and the length of their file, an fsync of
 * a folder covers the names in it. Nothing else covers anything: not closing, not renaming, not
 * sync_file_range, not the sync of a new file for its own name. No sync reaches the real disk, so
 * this is fast.
 *
 * When the power goes, each sector of 512 bytes that was written since is kept or taken back by a
 * throw of dice, one by one and out of order. A file's length is a thing of its own: the newest
 * change of it that the dice keep says how long the file is, and so are those before it; without any
 * the file is as long as at its last sync. So a file may end short, with zeros in place of what was
 * written, or be shorter than at its last sync. What was cut off comes back whole if the cut is taken
 * back, and not at all otherwise. Of the changes of names in each folder the newest are taken back, as
 * many as the dice say. Then the process ends.
 *
 * Not simulated: writes through mmap, pwritev or fallocate, truncate by name, link, symlink, creat,
 * renameat2, extended attributes, times and modes of files, and sectors that are torn inside. They
 * change nothing for the store, which uses none of them.
 *
 * The environment says what happens (numbers; 0 or nothing is never):
 *   POWER_ROOT     the folder that is watched; without it this library does nothing
 *   POWER_SHADOW   a folder on the same file system where removed files are kept to be brought back
 *   POWER_SEED     what the dice grow from
 *   POWER_KEEP     of a thousand changes not covered, how many reach the disk all the same
 *   POWER_CUT_AT   the power goes at the change of this number, which does not happen any more;
 *                  SIGUSR2 lets it go at the next change
 *   POWER_FULL_AT  the disk is full from the change of this number on ...
 *   POWER_FULL_FOR ... for so many changes; the first of them still writes its first half
 *   POWER_FAIL_AT  from this number on the next sync fails with EIO; the bytes that it should have
 *                  covered are not covered by a later one either, names are
 *   POWER_LIE      1: fdatasync says that it is done and covers nothing; to see a test fail
 *   POWER_REPORT   a file that gets one line of counts
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define SECTOR 512
#define PAGE 4096
#define EXIT_CUT 86

/* Bytes of a file that were written over, or cut off, since its last sync, and its length. */
struct change {
    off_t at, size_before, size_after;
    size_t length, old_length;
    unsigned char *old;
    int is_doomed;
    struct change *older;
};

struct file {
    dev_t dev;
    ino_t ino;
    int fd;
    struct change *newest;
    struct file *next;
};

struct folder {
    dev_t dev;
    ino_t ino;
    int fd;
    long names, kept;
    struct folder *next;
};

enum deed { CREATED, MADE, RENAMED, UNLINKED, REMOVED };

/* A name that appeared, changed or went since the last sync of its folder. */
struct name {
    enum deed deed;
    struct folder *in, *from;
    char to[NAME_MAX + 1], was[NAME_MAX + 1];
    char shadow[64];
    struct folder *removed;
    struct name *older;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static volatile sig_atomic_t is_asked;
static struct file *files;
static struct folder *folders;
static struct name *names;
static char root[PATH_MAX];
static size_t root_length;
static const char *shadow;
static uint64_t dice;
static long cut_at, full_at, full_for, fail_at, keep, lies;
static long changes, syncs, shadows, dropped, kept;

static int (*real_open)(const char *, int, ...);
static int (*real_openat)(int, const char *, int, ...);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*real_writev)(int, const struct iovec *, int);
static int (*real_ftruncate)(int, off_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_sync_file_range)(int, off_t, off_t, unsigned);
static int (*real_renameat)(int, const char *, int, const char *);
static int (*real_unlinkat)(int, const char *, int);
static int (*real_mkdirat)(int, const char *, mode_t);
static int (*real_linkat)(int, const char *, int, const char *, int);
static ssize_t (*real_copy_file_range)(int, off_t *, int, off_t *, size_t, unsigned);
static ssize_t (*real_sendfile)(int, int, off_t *, size_t);

static long number(const char *name) {
    const char *text = getenv(name);
    return text ? strtol(text, NULL, 10) : 0;
}

/* SplitMix64. */
static uint64_t draw(void) {
    uint64_t mixed = dice += 0x9E3779B97F4A7C15u;
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBu;
    return mixed ^ (mixed >> 31);
}

static void on_signal(int signal) {
    (void)signal;
    is_asked = 1;
}

static void begin(void) {
    static int is_done;
    if (is_done)
        return;
    is_done = 1;
    *(void **)&real_open = dlsym(RTLD_NEXT, "open64");
    *(void **)&real_openat = dlsym(RTLD_NEXT, "openat64");
    *(void **)&real_write = dlsym(RTLD_NEXT, "write");
    *(void **)&real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    *(void **)&real_writev = dlsym(RTLD_NEXT, "writev");
    *(void **)&real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    *(void **)&real_fsync = dlsym(RTLD_NEXT, "fsync");
    *(void **)&real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    *(void **)&real_sync_file_range = dlsym(RTLD_NEXT, "sync_file_range");
    *(void **)&real_renameat = dlsym(RTLD_NEXT, "renameat");
    *(void **)&real_unlinkat = dlsym(RTLD_NEXT, "unlinkat");
    *(void **)&real_mkdirat = dlsym(RTLD_NEXT, "mkdirat");
    *(void **)&real_linkat = dlsym(RTLD_NEXT, "linkat");
    *(void **)&real_copy_file_range = dlsym(RTLD_NEXT, "copy_file_range");
    *(void **)&real_sendfile = dlsym(RTLD_NEXT, "sendfile64");
    const char *watched = getenv("POWER_ROOT");
    shadow = getenv("POWER_SHADOW");
    if (!watched || !shadow || !realpath(watched, root))
        return;
    root_length = strlen(root);
    dice = (uint64_t)number("POWER_SEED");
    cut_at = number("POWER_CUT_AT");
    full_at = number("POWER_FULL_AT");
    full_for = number("POWER_FULL_FOR");
    fail_at = number("POWER_FAIL_AT");
    keep = number("POWER_KEEP");
    lies = number("POWER_LIE");
    signal(SIGUSR2, on_signal);
}

__attribute__((constructor)) static void start(void) { begin(); }

static int is_under(const char *path) {
    return root_length && !strncmp(path, root, root_length)
        && (path[root_length] == '/' || !path[root_length]);
}

/* Whether an open file lies under the watched folder. */
static int is_watched(int fd, struct stat *about) {
    char link[64], path[PATH_MAX];
    if (!root_length || fstat(fd, about) || !(S_ISREG(about->st_mode) || S_ISDIR(about->st_mode)))
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0)
        return 0;
    path[length] = 0;
    return is_under(path);
}

static struct folder *folder_of(int fd) {
    struct stat about;
    if (fstat(fd, &about))
        return NULL;
    for (struct folder *it = folders; it; it = it->next)
        if (it->dev == about.st_dev && it->ino == about.st_ino)
            return it;
    struct folder *made = calloc(1, sizeof *made);
    made->dev = about.st_dev;
    made->ino = about.st_ino;
    made->fd = fcntl(fd, F_DUPFD_CLOEXEC, 200);
    made->next = folders;
    return folders = made;
}

/* Returns the watched folder that a path lies in and copies the path's last part; nothing if it is
 * not watched. */
static struct folder *place(int at, const char *path, char last[NAME_MAX + 1]) {
    char copy[PATH_MAX], real[PATH_MAX], link[64];
    if (!root_length || strlen(path) >= sizeof copy - 2)
        return NULL;
    strcpy(copy, path);
    size_t length = strlen(copy);
    while (length > 1 && copy[length - 1] == '/')
        copy[--length] = 0;
    char *slash = strrchr(copy, '/');
    const char *name = slash ? slash + 1 : copy;
    if (!*name || strlen(name) > NAME_MAX)
        return NULL;
    strcpy(last, name);
    const char *above = slash == copy ? "/" : slash ? copy : ".";
    if (slash)
        *slash = 0;
    int fd = real_openat(at, above, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t got = readlink(link, real, sizeof real - 1);
    real[got > 0 ? got : 0] = 0;
    struct folder *found = is_under(real) ? folder_of(fd) : NULL;
    close(fd);
    return found;
}

static struct file *file_of(int fd, const struct stat *about) {
    for (struct file *it = files; it; it = it->next)
        if (it->dev == about->st_dev && it->ino == about->st_ino)
            return it;
    char link[64];
    struct file *made = calloc(1, sizeof *made);
    made->dev = about->st_dev;
    made->ino = about->st_ino;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    made->fd = real_open(link, O_RDWR | O_CLOEXEC);
    made->next = files;
    return files = made;
}

/* Remembers what `length` bytes from `at` on hold now, and that the file gets a new length. */
static void remember(int fd, const struct stat *about, off_t at, size_t length, off_t size) {
    struct file *file = file_of(fd, about);
    struct change *change = calloc(1, sizeof *change);
    change->at = at;
    change->length = length;
    change->size_before = about->st_size;
    change->size_after = size;
    if (at < about->st_size && length) {
        size_t there = (size_t)(about->st_size - at);
        change->old = malloc(length < there ? length : there);
        ssize_t got = pread(file->fd, change->old, length < there ? length : there, at);
        change->old_length = got > 0 ? (size_t)got : 0;
    }
    change->older = file->newest;
    file->newest = change;
}

/* Remembers that `length` bytes from `at` on are written over. */
static void remember_write(int fd, const struct stat *about, off_t at, size_t length) {
    off_t end = at + (off_t)length;
    remember(fd, about, at, length, length && end > about->st_size ? end : about->st_size);
}

/* Remembers that a file is cut off at `size`, or made longer without a byte. */
static void remember_resize(int fd, const struct stat *about, off_t size) {
    size_t cut = size < about->st_size ? (size_t)(about->st_size - size) : 0;
    remember(fd, about, size, cut, size);
}

static int is_cut_off(const struct change *it) { return it->size_after < it->size_before; }

static struct name *note(enum deed deed, struct folder *in, const char *to) {
    struct name *made = calloc(1, sizeof *made);
    made->deed = deed;
    made->in = in;
    strcpy(made->to, to);
    made->older = names;
    return names = made;
}

/* Keeps a file that is about to lose its name, so that the name can be given back. */
static void keep_aside(struct folder *in, const char *name, char into[64]) {
    char path[PATH_MAX];
    snprintf(into, 64, "%d-%ld", getpid(), ++shadows);
    snprintf(path, sizeof path, "%s/%s", shadow, into);
    if (real_linkat(in->fd, name, AT_FDCWD, path, 0))
        into[0] = 0;
}

/* What a failed sync should have covered stays lost, but for the pages that were written to and
 * synced since. */
static void refresh(struct file *file, const struct change *over) {
    for (struct change *it = over->older; it; it = it->older) {
        off_t from = over->at / PAGE * PAGE, end = it->at + (off_t)it->length;
        off_t stop = (over->at + (off_t)over->length + PAGE - 1) / PAGE * PAGE;
        from = from > it->at ? from : it->at;
        stop = stop < end ? stop : end;
        if (!it->is_doomed || from >= stop)
            continue;
        size_t reach = (size_t)(stop - it->at);
        if (it->old_length < reach) {
            it->old = realloc(it->old, reach);
            memset(it->old + it->old_length, 0, reach - it->old_length);
            it->old_length = reach;
        }
        ssize_t got = pread(file->fd, it->old + (from - it->at), (size_t)(stop - from), from);
        off_t known = from + (got > 0 ? got : 0);
        /* Behind the end there is nothing, and zeros when the file grows again. */
        memset(it->old + (known - it->at), 0, (size_t)(stop - known));
    }
}

static void forget_bytes(struct file *file, int is_covered) {
    struct change **at = &file->newest;
    while (*at) {
        struct change *it = *at;
        /* A length is covered by a later sync. */
        if (!is_covered || (it->is_doomed && !is_cut_off(it))) {
            it->is_doomed = 1;
            at = &it->older;
            continue;
        }
        refresh(file, it);
        *at = it->older;
        free(it->old);
        free(it);
    }
    struct stat about;
    if (is_covered && !fstat(file->fd, &about))
        for (struct change *it = file->newest; it; it = it->older)
            it->size_before = it->size_after = about.st_size;
    if (file->newest)
        return;
    struct file **here = &files;
    while (*here != file)
        here = &(*here)->next;
    *here = file->next;
    close(file->fd);
    free(file);
}

static void forget_names(struct folder *in) {
    struct name **at = &names;
    while (*at) {
        struct name *it = *at;
        if (it->in != in) {
            at = &it->older;
            continue;
        }
        *at = it->older;
        free(it);
    }
}

static void remove_tree(int at, const char *name) {
    if (!real_unlinkat(at, name, 0) || !real_unlinkat(at, name, AT_REMOVEDIR))
        return;
    int fd = real_openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = fd < 0 ? NULL : fdopendir(fd);
    if (!list)
        return;
    for (struct dirent *it; (it = readdir(list));)
        if (strcmp(it->d_name, ".") && strcmp(it->d_name, ".."))
            remove_tree(fd, it->d_name);
    closedir(list);
    real_unlinkat(at, name, AT_REMOVEDIR);
}

static void bring_back(const char *aside, struct folder *in, const char *name) {
    char path[PATH_MAX];
    if (!aside[0])
        return;
    snprintf(path, sizeof path, "%s/%s", shadow, aside);
    real_linkat(AT_FDCWD, path, in->fd, name, 0);
}

static void undo_name(struct name *it) {
    switch (it->deed) {
    case CREATED:
        real_unlinkat(it->in->fd, it->to, 0);
        break;
    case MADE:
        remove_tree(it->in->fd, it->to);
        break;
    case RENAMED:
        real_renameat(it->in->fd, it->to, it->from->fd, it->was);
        bring_back(it->shadow, it->in, it->to);
        break;
    case UNLINKED:
        bring_back(it->shadow, it->in, it->to);
        break;
    case REMOVED:
        real_mkdirat(it->in->fd, it->to, 0700);
        if (it->removed)
            it->removed->fd =
                real_openat(it->in->fd, it->to, O_PATH | O_DIRECTORY | O_CLOEXEC);
        break;
    }
}

static int is_lucky(void) { return (long)(draw() % 1000) < keep; }

/* Takes back one change of a file's bytes, sector by sector. */
static void undo_bytes(struct file *file, struct change *it) {
    static const unsigned char zeros[SECTOR];
    off_t stop = it->at + (off_t)it->length;
    for (off_t from = it->at; from < stop;) {
        off_t to = (from / SECTOR + 1) * SECTOR;
        to = to < stop ? to : stop;
        if (is_lucky()) {
            kept++;
        } else {
            off_t known = it->at + (off_t)it->old_length;
            off_t old = to < known ? to : known;
            dropped++;
            if (from < old)
                real_pwrite(file->fd, it->old + (from - it->at), (size_t)(old - from), from);
            from = from < old ? old : from;
            if (from < to)
                real_pwrite(file->fd, zeros, (size_t)(to - from), from);
        }
        from = to;
    }
}

static void undo_file(struct file *file) {
    struct stat about;
    int is_settled = fstat(file->fd, &about);
    off_t size = about.st_size;
    for (struct change *it = file->newest; it; it = it->older) {
        if (!is_settled && it->size_after != it->size_before) {
            is_settled = is_lucky();
            size = is_settled ? it->size_after : it->size_before;
        }
        if (!is_cut_off(it)) {
            undo_bytes(file, it);
        } else if (!is_settled) {
            /* What lies behind the old end was never touched: only the length said otherwise. */
            real_pwrite(file->fd, it->old, it->old_length, it->at);
        }
    }
    real_ftruncate(file->fd, size);
}

/* The power goes. */
static void cut(void) {
    for (struct file *it = files; it; it = it->next)
        if (it->fd >= 0)
            undo_file(it);
    for (struct name *it = names; it; it = it->older)
        it->in->names++;
    for (struct folder *it = folders; it; it = it->next)
        it->kept = keep >= 1000 ? it->names : keep ? (long)(draw() % (uint64_t)(it->names + 1)) : 0;
    /* Names are undone from the newest on: what is left of a folder's are the oldest. */
    long undone = 0;
    for (struct name *it = names; it; it = it->older)
        if (it->in->names-- > it->in->kept) {
            undo_name(it);
            undone++;
        }
    const char *report = getenv("POWER_REPORT");
    if (report) {
        char line[256];
        int length = snprintf(line, sizeof line,
            "changes %ld syncs %ld sectors_dropped %ld sectors_kept %ld names_undone %ld\n",
            changes, syncs, dropped, kept, undone);
        int fd = real_open(report, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        real_write(fd, line, (size_t)length);
    }
    syscall(SYS_exit_group, EXIT_CUT);
}

/* Counts a change that is about to happen; the power may go instead. */
static void step(void) {
    if (++changes == cut_at || is_asked)
        cut();
}

static int is_full(void) {
    return full_at && changes >= full_at && changes < full_at + full_for;
}

/* How many bytes of a write the disk still takes; -1 for none. */
static ssize_t room(size_t length) {
    if (!is_full())
        return (ssize_t)length;
    return changes == full_at && length >= 2 ? (ssize_t)(length / 2) : -1;
}

static int refuse(int why) {
    pthread_mutex_unlock(&lock);
    errno = why;
    return -1;
}

static ssize_t done(ssize_t outcome) {
    int why = errno;
    pthread_mutex_unlock(&lock);
    errno = why;
    return outcome;
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t at) {
    struct stat about;
    begin();
    if (!is_watched(fd, &about))
        return real_pwrite(fd, bytes, length, at);
    pthread_mutex_lock(&lock);
    step();
    ssize_t fits = room(length);
    if (fits < 0)
        return refuse(ENOSPC);
    fstat(fd, &about);
    remember_write(fd, &about, at, (size_t)fits);
    return done(real_pwrite(fd, bytes, (size_t)fits, at));
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) {
    return pwrite64(fd, bytes, length, at);
}

ssize_t write(int fd, const void *bytes, size_t length) {
    struct stat about;
    begin();
    if (!is_watched(fd, &about))
        return real_write(fd, bytes, length);
    pthread_mutex_lock(&lock);
    step();
    ssize_t fits = room(length);
    if (fits < 0)
        return refuse(ENOSPC);
    fstat(fd, &about);
    off_t at = fcntl(fd, F_GETFL) & O_APPEND ? about.st_size : lseek(fd, 0, SEEK_CUR);
    remember_write(fd, &about, at, (size_t)fits);
    return done(real_write(fd, bytes, (size_t)fits));
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    struct stat about;
    begin();
    int first = 0;
    while (first < count && !parts[first].iov_len)
        first++;
    if (!is_watched(fd, &about) || first >= count)
        return real_writev(fd, parts, count);
    /* A caller has to expect that less was written than it asked for; nothing says an error. */
    return write(fd, parts[first].iov_base, parts[first].iov_len);
}

int ftruncate64(int fd, off_t size) {
    struct stat about;
    begin();
    if (!is_watched(fd, &about))
        return real_ftruncate(fd, size);
    pthread_mutex_lock(&lock);
    step();
    if (size > about.st_size && is_full())
        return refuse(ENOSPC);
    fstat(fd, &about);
    remember_resize(fd, &about, size);
    return (int)done(real_ftruncate(fd, size));
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

static int sync_of(int fd, int covers) {
    struct stat about;
    pthread_mutex_lock(&lock);
    step();
    syncs++;
    int fails = fail_at && changes >= fail_at;
    if (fails)
        fail_at = 0;
    fstat(fd, &about);
    if (covers || fails) {
        if (S_ISDIR(about.st_mode) && !fails)
            forget_names(folder_of(fd));
        for (struct file *it = files, *next; it; it = next) {
            next = it->next;
            if (it->dev == about.st_dev && it->ino == about.st_ino)
                forget_bytes(it, !fails);
        }
    }
    return fails ? refuse(EIO) : (int)done(0);
}

int fsync(int fd) {
    struct stat about;
    begin();
    return is_watched(fd, &about) ? sync_of(fd, 1) : real_fsync(fd);
}

int fdatasync(int fd) {
    struct stat about;
    begin();
    return is_watched(fd, &about) ? sync_of(fd, !lies) : real_fdatasync(fd);
}

int sync_file_range(int fd, off_t at, off_t length, unsigned flags) {
    struct stat about;
    begin();
    return is_watched(fd, &about) ? 0 : real_sync_file_range(fd, at, length, flags);
}

/* Whoever copies inside the kernel is told to use write. */
ssize_t copy_file_range(int in, off_t *from, int out, off_t *to, size_t length, unsigned flags) {
    struct stat about;
    begin();
    if (!is_watched(out, &about))
        return real_copy_file_range(in, from, out, to, length, flags);
    errno = ENOSYS;
    return -1;
}

ssize_t sendfile64(int out, int in, off_t *from, size_t length) {
    struct stat about;
    begin();
    if (!is_watched(out, &about))
        return real_sendfile(out, in, from, length);
    errno = ENOSYS;
    return -1;
}

ssize_t sendfile(int out, int in, off_t *from, size_t length) {
    return sendfile64(out, in, from, length);
}

static int open_at(int at, const char *path, int flags, mode_t mode) {
    char name[NAME_MAX + 1];
    struct stat about;
    begin();
    struct folder *in = NULL;
    if (root_length && flags & (O_CREAT | O_TRUNC) && (flags & O_TMPFILE) != O_TMPFILE) {
        pthread_mutex_lock(&lock);
        in = place(at, path, name);
        if (!in)
            pthread_mutex_unlock(&lock);
    }
    if (!in)
        return real_openat(at, path, flags, mode);
    int is_there = !fstatat(in->fd, name, &about, 0);
    if (!is_there || flags & O_TRUNC)
        step();
    if (!is_there && is_full())
        return refuse(ENOSPC);
    if (is_there && flags & O_TRUNC && about.st_size) {
        int fd = real_openat(in->fd, name, O_RDWR | O_CLOEXEC);
        if (fd >= 0) {
            remember_resize(fd, &about, 0);
            close(fd);
        }
    }
    int fd = real_openat(at, path, flags, mode);
    if (fd >= 0 && !is_there)
        note(CREATED, in, name);
    return (int)done(fd);
}

#define MODE_OF(flags)                                                                             \
    mode_t mode = 0;                                                                               \
    if (flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE) {                                                           \
        va_list rest;                                                                              \
        va_start(rest, flags);                                                                     \
        mode = (mode_t)va_arg(rest, int);                                                          \
        va_end(rest);                                                                              \
    }

int open64(const char *path, int flags, ...) {
    MODE_OF(flags)
    return open_at(AT_FDCWD, path, flags, mode);
}

int open(const char *path, int flags, ...) {
    MODE_OF(flags)
    return open_at(AT_FDCWD, path, flags, mode);
}

int openat64(int at, const char *path, int flags, ...) {
    MODE_OF(flags)
    return open_at(at, path, flags, mode);
}

int openat(int at, const char *path, int flags, ...) {
    MODE_OF(flags)
    return open_at(at, path, flags, mode);
}

int renameat(int from_at, const char *from, int to_at, const char *to) {
    char was[NAME_MAX + 1], name[NAME_MAX + 1], aside[64] = "";
    struct stat about;
    begin();
    pthread_mutex_lock(&lock);
    struct folder *out = place(from_at, from, was), *in = place(to_at, to, name);
    if (!out || !in)
        return (int)done(real_renameat(from_at, from, to_at, to));
    step();
    if (!fstatat(in->fd, name, &about, AT_SYMLINK_NOFOLLOW) && S_ISREG(about.st_mode))
        keep_aside(in, name, aside);
    int outcome = real_renameat(from_at, from, to_at, to);
    if (!outcome) {
        struct name *made = note(RENAMED, in, name);
        made->from = out;
        strcpy(made->was, was);
        strcpy(made->shadow, aside);
    }
    return (int)done(outcome);
}

int rename(const char *from, const char *to) { return renameat(AT_FDCWD, from, AT_FDCWD, to); }

int unlinkat(int at, const char *path, int flags) {
    char name[NAME_MAX + 1], aside[64] = "";
    struct folder *removed = NULL;
    begin();
    pthread_mutex_lock(&lock);
    struct folder *in = place(at, path, name);
    if (!in)
        return (int)done(real_unlinkat(at, path, flags));
    step();
    if (flags & AT_REMOVEDIR) {
        int fd = real_openat(in->fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
        removed = fd < 0 ? NULL : folder_of(fd);
        if (fd >= 0)
            close(fd);
    } else {
        keep_aside(in, name, aside);
    }
    int outcome = real_unlinkat(at, path, flags);
    if (!outcome) {
        struct name *made = note(flags & AT_REMOVEDIR ? REMOVED : UNLINKED, in, name);
        made->removed = removed;
        strcpy(made->shadow, aside);
    }
    return (int)done(outcome);
}

int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }

int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdirat(int at, const char *path, mode_t mode) {
    char name[NAME_MAX + 1];
    begin();
    pthread_mutex_lock(&lock);
    struct folder *in = place(at, path, name);
    if (!in)
        return (int)done(real_mkdirat(at, path, mode));
    step();
    if (is_full())
        return refuse(ENOSPC);
    int outcome = real_mkdirat(at, path, mode);
    if (!outcome)
        note(MADE, in, name);
    return (int)done(outcome);
}

int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }
