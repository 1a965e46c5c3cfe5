/*
 * kernel/include/fs.h - files, inodes, descriptors, polling.
 *
 * One file system, held in memory: a tree of inodes made from the initramfs, with directories, symbolic
 * links, devices, fifos, sockets and generated files (/proc).  The content of a regular file is its
 * quire_object: read, write and mmap see the same frames.
 */
#ifndef K_FS_H
#define K_FS_H

#include "k.h"
#include "lock.h"
#include "wait.h"

struct quire_object;
struct process;
struct file;
struct inode;
struct kstat;
struct dentry;
struct epoll_item;

#define POLL_IN    0x001u
#define POLL_PRI   0x002u
#define POLL_OUT   0x004u
#define POLL_ERR   0x008u
#define POLL_HUP   0x010u
#define POLL_NVAL  0x020u
#define POLL_RDHUP 0x2000u

/*
 * A poller collects the wait queues of the files that it asks.  poll_add may be called by a file's
 * poll operation with the queue that changes of readiness wake; NULL table: only the mask is wanted.
 */
struct poll_table;
void poll_add(struct poll_table *pt, struct waitq *q);

/* A position in user memory that data flows to or from: struct iovec walked by the helpers. */
struct uio {
    const struct kiovec *iov;
    unsigned niov;
    size_t left;    /* bytes in total */
    size_t iov_off; /* within iov[0] */
    bool kernel;    /* addresses are the kernel's own */
};
struct kiovec {
    u64 base, len;
};
/* Move n bytes at most n <= left; returns 0 or -EFAULT (then what was moved is deducted from left). */
int uio_put(struct uio *u, const void *from, size_t n); /* kernel -> user */
int uio_get(struct uio *u, void *to, size_t n);         /* user -> kernel */

struct file_ops {
    long (*read)(struct file *, struct uio *,
                 u64 *pos); /* bytes or -errno; pos NULL: not seekable */
    long (*write)(struct file *, struct uio *, u64 *pos);
    i64 (*lseek)(struct file *, i64 off, int whence);
    long (*ioctl)(struct file *, unsigned cmd, u64 arg);
    unsigned (*poll)(struct file *, struct poll_table *);
    /* The object to map, referenced, or -errno in *err; default: the inode's object. */
    struct quire_object *(*mmap)(struct file *, int *err);
    void (*release)(struct file *);
    int (*fsync)(struct file *);
};

struct file {
    const struct file_ops *ops;
    struct inode *inode; /* never NULL: nameless kinds have one of their own */
    void *priv;
    u64 pos; /* under pos_lock */
    struct kmutex pos_lock;
    u32 flags; /* O_*; atomic */
    u32 refs;
    int owner_pid;         /* F_SETOWN */
    struct dentry *dentry; /* the name it was opened by, referenced; NULL for anonymous kinds */
    struct epoll_item *watchers; /* under the epoll mutex (epoll.c) */
};

/* New file with one reference, or NULL.  inode NULL: a nameless file with an inode of its own. */
struct file *file_alloc(const struct file_ops *ops, struct inode *inode, void *priv, u32 flags);
void file_get(struct file *f);
void file_put(struct file *f);
/* The current process's descriptor with a reference, or NULL (EBADF). */
struct file *fd_get(int fd);
/* Lowest free descriptor >= from; takes over the caller's reference.  -EMFILE. */
int fd_install(struct file *f, bool cloexec, int from);
int fd_close(int fd);
/* Install descriptors 0, 1 and 2 of the first process: the console.  0 or -errno. */
int console_open_fds(void);

struct files; /* descriptor table of a process */
struct files *files_new(void);
struct files *files_copy(struct files *); /* fork */
void files_get(struct files *);
void files_put(struct files *); /* closes all at the last one */
void files_close_on_exec(struct files *);

struct fs_context; /* cwd, root, umask */
struct fs_context *fs_context_new(void);
struct fs_context *fs_context_copy(struct fs_context *);
void fs_context_get(struct fs_context *);
void fs_context_put(struct fs_context *);

/* Opened for exec or by the kernel itself: follows links, checks x permission.  Negative errno in *err. */
struct file *kfile_open(const char *path, u32 flags, int *err);
/* Relative to a descriptor, which an empty path means itself; flags: O_NOFOLLOW or 0.  While it is open nobody
 * opens the file for writing. */
struct file *kfile_open_at(int dirfd, const char *path, u32 flags, int *err);
/* The current process's working directory from now on. */
int kchdir(const char *path);
/* As open(2) with these flags, mode and the umask. */
struct file *kfile_create(const char *path, u32 flags, u32 mode, int *err);
long kfile_read(struct file *f, void *buf, size_t n, u64 pos);
u64 kfile_size(struct file *f);
struct quire_object *kfile_object(struct file *f); /* not referenced; NULL: not mappable */
/*
 * Around a shared mapping of f, for writing or not: holds the seals of a memfd still.  -EPERM: they forbid it;
 * *max_prot loses QUIRE_WRITE where they allow the mapping but no later mprotect.  No end after a failure.
 */
int file_share_begin(struct file *f, bool write, unsigned *max_prot);
void file_share_end(struct file *f);
/* Absolute path of an inode into buf; "(deleted)" appended as Linux does. */
void inode_path(struct inode *i, char *buf, size_t cap);
/* Path of the file behind an object of a mapping, device and inode number, for /proc/pid/maps. */
bool object_file_info(struct quire_object *o, char *path, size_t cap, u64 *ino, u32 *dev);

/* Unpack a newc cpio image at [p, p + n), which stays in memory (pages may be used in place).
 * -EINVAL and the offset on the log if it is damaged: nothing is kept. */
int initramfs_load(const void *p, size_t n);
void fs_init(void);

/* Console input arrived (interrupt context). */
void tty_input(const u8 *bytes, size_t n);
/* Bytes that tty_input can take now; what comes beyond is lost.  Any context. */
size_t tty_input_room(void);
/* End of the input stream. */
void tty_input_eof(void);
/* SIGINT to the foreground process group, as if typed. */
void tty_interrupt(void);
/* The reader has made room: the driver may look at its input again.  Provided by the driver of the
 * console; task context. */
void console_input_resume(void);
/* Where program output goes: implemented by arch/console. stream 1 stdout, 2 stderr. */
void console_write(int stream, const char *p, size_t n);

#endif
