/*
 * fs/fsint.h - what the files of kernel/fs share.
 *
 * Model.  An inode is a file; a dentry is a name of it in a directory; a struct file is an opening.
 * A dentry holds references on its inode and its parent, so a name can be followed upward for as
 * long as anybody holds it.  In a directory in memory the tree holds one reference on each dentry;
 * those of generated directories (/proc) are made by a look-up and die with their last user.
 *
 * Invariants
 *   F1  dentry.linked <=> it is in its parent's table, on the parent's list, in its inode's aliases
 *   F2  an inode's refs count dentries, plus those who name it without one (sockets, fifos in use)
 *   F3  the memory of an inode with an object is freed by the object's release, for mappings may
 *       outlive every name and file; path and numbers for /proc/pid/maps stay in it
 *
 * Locking.  fs_tree_lock (sleeping) covers every name, parent, link count, alias list and mount; no
 * user memory is touched under it.  inode.lock (sleeping) orders writes and truncations of one
 * file; user memory may be touched under it, for the fault path takes no lock of this folder.
 * Spin locks of single structures come last.  Order: fs_tree_lock, inode.lock, spin locks.
 */
#ifndef FS_FSINT_H
#define FS_FSINT_H

#include <fs.h>
#include <oom.h>
#include <quire/frame.h>
#include <quire/heap.h>
#include <quire/kva.h>
#include <quire/object.h>
#include <task.h>
#include <uaccess.h>

#define S_IFMT   0170000u
#define S_IFSOCK 0140000u
#define S_IFLNK  0120000u
#define S_IFREG  0100000u
#define S_IFBLK  0060000u
#define S_IFDIR  0040000u
#define S_IFCHR  0020000u
#define S_IFIFO  0010000u
#define S_ISUID  04000u
#define S_ISGID  02000u
#define S_ISVTX  01000u

#define O_ACCMODE   03u
#define O_RDONLY    0u
#define O_WRONLY    01u
#define O_RDWR      02u
#define O_CREAT     0100u
#define O_EXCL      0200u
#define O_NOCTTY    0400u
#define O_TRUNC     01000u
#define O_APPEND    02000u
#define O_NONBLOCK  04000u
#define O_DSYNC     010000u
#define O_ASYNC     020000u
#define O_DIRECT    040000u
#define O_LARGEFILE 0100000u
#define O_DIRECTORY 0200000u
#define O_NOFOLLOW  0400000u
#define O_NOATIME   01000000u
#define O_CLOEXEC   02000000u
#define O_SYNC      04010000u
#define O_PATH      010000000u
#define O_TMPFILE   020200000u
/* Kept in file.flags only: opened for execution or to read by the kernel. */
#define O_KERNEL 0x40000000u
/* It counts in the inode's busy. */
#define O_COUNTED 0x20000000u

#define AT_FDCWD            (-100)
#define AT_SYMLINK_NOFOLLOW 0x100
#define AT_REMOVEDIR        0x200
#define AT_EACCESS          0x200
#define AT_SYMLINK_FOLLOW   0x400
#define AT_NO_AUTOMOUNT     0x800
#define AT_EMPTY_PATH       0x1000

#define PATH_CAP      4096
#define NAME_LIMIT    255
#define RLIMIT_FSIZE  1
#define RLIMIT_NOFILE 7

#define MAKEDEV(ma, mi) ((u32)((ma) << 8 | ((mi)&0xff) | ((u32)(mi) & ~0xffu) << 12))
#define DEV_MAJOR(d)    ((d) >> 8 & 0xfff)
#define DEV_MINOR(d)    (((d)&0xff) | ((d) >> 12 & 0xfff00))

#define INODE_MAGIC 0x494e4f44u

struct dir_emit;
struct pipe;
struct sock;
struct text;

/* Of generated inodes; every member may be NULL. */
struct inode_ops {
    /* New dentry below dir, referenced; NULL and *err.  fs_tree_lock held. */
    struct dentry *(*lookup)(struct dentry *dir, const char *name, int *err);
    /* Emit the entries after "." and ".." from position *pos (0..) on; 0 or -errno. */
    int (*readdir)(struct dentry *dir, struct dir_emit *e, u64 *pos);
    /* Target of a symbolic link: length, or -errno.  fs_tree_lock held. */
    long (*readlink)(struct inode *i, char *buf, size_t cap);
    /* A link that leads to an object instead of a name (/proc/self/fd/3): its dentry. */
    struct dentry *(*follow)(struct inode *i, int *err);
    int (*open)(struct file *f);
    void (*free)(struct inode *i);
};

struct inode {
    u32 magic;
    u32 refs; /* atomic */
    u32 mode, uid, gid;
    u32 nlink;
    u64 ino;
    u32 dev, rdev;
    u64 atime_ns, mtime_ns, ctime_ns;
    struct kmutex lock;
    const struct inode_ops *ops;
    const struct file_ops *fops; /* NULL: by kind */
    struct dentry *aliases;      /* linked names */
    char *dead_path;             /* path at the time the last name went, or of a nameless file */
    struct file_lock *locks;     /* locks.c */
    void *priv;                  /* of ops */
    u64 key;                     /* of ops */
    union {
        struct {
            struct dentry **table; /* NULL while empty */
            struct dentry *first, *last;
            u32 buckets, count;
            u64 next_cookie;
        } dir;
        struct {
            struct quire_object *object; /* NULL: not made yet; then size is that of image */
            const u8 *image;             /* content from the initramfs, or NULL */
            u64 image_len;
            u32 seals; /* F_SEAL_*, or SEALS_NONE if not a sealable file */
            int busy;  /* atomic: > 0 open for writing, < 0 being run; never both (ETXTBSY) */
        } reg;
        char *target; /* symbolic link */
        struct pipe *pipe;
        struct sock *sock;
    };
};
/* As Linux: a file of tmpfs that is not from memfd_create(MFD_ALLOW_SEALING) is sealed against sealing. */
#define F_SEAL_SEAL         1u
#define F_SEAL_SHRINK       2u
#define F_SEAL_GROW         4u
#define F_SEAL_WRITE        8u
#define F_SEAL_FUTURE_WRITE 16u

struct dentry {
    u32 refs; /* atomic */
    u32 hash;
    bool linked;
    struct inode *inode;
    struct dentry *parent;  /* NULL: root of a file system, or nameless */
    struct dentry *covers;  /* root of a mount: what it hides; referenced */
    struct dentry *covered; /* root of the mount on top of this */
    struct dentry *hash_next, *prev, *next, *alias_next;
    u64 cookie; /* place in the directory's order */
    char *name;
};

extern struct kmutex fs_tree_lock;
extern struct dentry *fs_root;

/* ---- inode.c ---- */
struct inode *inode_new(u32 mode, u32 dev);
void inode_get(struct inode *i);
void inode_put(struct inode *i);
/* New unlinked dentry over inode (whose reference it takes over, also on failure: then NULL). */
struct dentry *dentry_new(struct inode *inode, struct dentry *parent, const char *name);
/* The same for what has no place: a pipe, a socket. */
struct dentry *dentry_nameless(struct inode *inode, const char *name);
struct dentry *dentry_get(struct dentry *d);
void dentry_put(struct dentry *d); /* NULL is fine */
/* fs_tree_lock held for these. */
struct dentry *dir_find(struct dentry *dir, const char *name);
int dir_add(struct dentry *dir, struct dentry *d); /* takes a reference of its own */
void dir_remove(struct dentry *d);                 /* drops it */
int dir_move(struct dentry *d, struct dentry *to_dir, const char *name);
bool dir_empty(const struct inode *i);
size_t dentry_path_locked(struct dentry *d, const struct dentry *root, char *buf, size_t cap);
void dentry_path(struct dentry *d, char *buf, size_t cap);
/* The object of a regular file, made if need be; not referenced. */
struct quire_object *inode_object(struct inode *i, int *err);
/* Pages that files may still take (regfile.c). */
u64 file_room(void);
u64 inode_size(const struct inode *i);
int inode_set_size(struct inode *i, u64 size); /* inode.lock held */
void inode_touch(struct inode *i);             /* mtime and ctime are now */
u64 inode_blocks(const struct inode *i);       /* of 512 bytes */

/* ---- path.c ---- */
#define WALK_FOLLOW 1u /* a link at the end is followed */
#define WALK_PARENT 2u /* stop at the last part */
#define WALK_EMPTY  4u /* "" means dirfd itself */
struct walk {
    struct dentry *d; /* result, referenced; with WALK_PARENT the directory */
    char last[NAME_LIMIT + 1];
    bool slash;   /* something like "name/" */
    bool special; /* last is "." , ".." or there is none */
};
/* path is kernel memory.  fs_tree_lock must not be held. */
/* One more writer (by 1) or runner (by -1) of a regular file, or false: it is the other.  Undone by the last
 * file_put() of a file with O_COUNTED. */
bool inode_claim(struct inode *i, int by);
int path_walk(int dirfd, const char *path, unsigned flags, struct walk *w);
/* The same with fs_tree_lock held. */
int path_walk_locked(int dirfd, const char *path, unsigned flags, struct walk *w);
/* From base instead of a descriptor; fs_tree_lock held. */
int path_walk_from(struct dentry *base, const char *path, unsigned flags, struct walk *w);
/* User path -> kmalloc'ed text, or NULL and *err. */
char *path_from_user(u64 upath, int *err);
int walk_user(int dirfd, u64 upath, unsigned flags, struct walk *w);
/* mask: 4 read, 2 write, 1 search or execute.  With the file-system ids of the process. */
int inode_permission(const struct inode *i, unsigned mask);
bool inode_owner_or_root(const struct inode *i);
/* An entry of one directory, following mounts: referenced, or NULL and *err. */
struct dentry *lookup_one(struct dentry *dir, const char *name, int *err);
u32 fs_uid(void);
u32 fs_gid(void);

/* ---- file.c ---- */
struct fs_context {
    u32 refs;
    u32 umask;
    struct kspin lock;
    struct dentry *cwd, *root;
};
struct dentry *fs_cwd(void); /* referenced */
struct dentry *fs_rootdir(void);
void fs_set_cwd(struct dentry *d); /* takes over the reference */
void fs_set_root(struct dentry *d);
/* Over d, whose reference it takes over, also on failure. */
struct file *file_on(struct dentry *d, const struct file_ops *ops, u32 flags);
/* Nameless file with an inode of its own; name like "anon_inode:[eventfd]". */
struct file *file_anon(const struct file_ops *ops, const char *name, u32 mode, void *priv,
                       u32 flags);
/* A reference on descriptor fd of any process's table. */
/* Close-on-exec of fd: set < 0 asks. */
long fd_cloexec(int fd, int set);
struct file *files_get_fd(struct files *fs, int fd);
int files_next_fd(struct files *fs, int from);    /* lowest open descriptor >= from, or -1 */
int fd_install_flags(struct file *f, u32 oflags); /* lowest; close-on-exec by O_CLOEXEC */
unsigned files_capacity(struct files *fs);
bool file_readable(const struct file *f);
bool file_writable(const struct file *f);

/* ---- uio.c ---- */
#define UIO_MAX 1024
struct uio_user {
    struct uio u;
    struct kiovec *heap;
    struct kiovec inline_iov[8];
};
int uio_from_user(struct uio_user *uu, u64 uiov, u64 n);
int uio_single(struct uio_user *uu, u64 base, u64 len); /* checks the range */
void uio_done(struct uio_user *uu);
void uio_kernel(struct uio *u, struct kiovec *iov, void *buf, size_t n);
/* Move and say how much went, whatever happened. */
size_t uio_put_part(struct uio *u, const void *from, size_t n);
size_t uio_get_part(struct uio *u, void *to, size_t n);
int uio_zero(struct uio *u, size_t n);

/* ---- regfile.c, others: operations by kind ---- */
extern const struct file_ops regfile_ops, dir_ops, fifo_ops, path_ops, tty_ops, sock_file_ops;
int inode_truncate(struct inode *i, u64 size);
int file_open_kind(struct file *f); /* after file_on: by inode kind (open.c) */
int chrdev_open(struct file *f);    /* dev.c */
int fifo_open(struct file *f);      /* pipe.c */
long pipe_fcntl(struct file *f, unsigned cmd, u64 arg);
struct pipe *file_pipe(struct file *f);
void pipe_free(struct pipe *p);

/* ---- open.c ---- */
/* fs_tree_lock held: new inode of this kind in dir, with the caller's ids; the dentry referenced. */
int create_in(struct dentry *dir, const char *name, u32 mode, u32 rdev, struct dentry **out);
int may_create(const struct dentry *dir);
u32 fs_umask(void);

/* ---- dirs.c ---- */
struct dir_emit {
    struct uio *u;
    bool old;  /* struct linux_dirent, not 64 */
    bool full; /* the next one did not fit */
    int err;
    size_t written;
};
/* false: no room; the entry is emitted again next time.  next: position after it. */
bool dir_emit(struct dir_emit *e, const char *name, u64 ino, u32 mode, u64 next);

/* ---- poll.c ---- */
struct poll_table {
    void (*queue)(struct poll_table *, struct waitq *);
    int err;
};
void epoll_file_gone(struct file *f);

/* ---- locks.c ---- */
void locks_release_owner(struct inode *i, void *owner); /* POSIX locks of a descriptor table */
void locks_release_file(struct file *f);                /* flock and OFD locks */
long locks_fcntl(struct file *f, unsigned cmd, u64 arg);

/* ---- text.c: growing buffers for generated files ---- */
struct text {
    char *p;
    size_t len, cap;
    bool failed; /* out of memory */
};
void text_printf(struct text *t, const char *fmt, ...) QUIRE_PRINTF(2, 3);
void text_put(struct text *t, const char *p, size_t n);
bool text_room(struct text *t, size_t n);
void text_fini(struct text *t);

/* ---- mount.c ---- */
struct mount {
    struct mount *next;
    struct dentry *root; /* referenced */
    char type[16], source[64], options[64];
    unsigned flags;
    u32 dev;
};
extern struct mount *fs_mounts; /* in order of mounting; under fs_tree_lock */
int mount_at(const char *source, struct dentry *at, const char *type, unsigned flags);
int fs_mkdir_path(const char *path, u32 mode); /* makes what is missing; at boot */
u64 fs_magic(const struct dentry *d);
struct mount *mount_of(const struct dentry *d);

/* ---- roots of the generated file systems ---- */
struct dentry *procfs_root(u32 dev);
struct dentry *sysfs_root(u32 dev);
struct dentry *devfs_root(u32 dev);
struct dentry *tmpfs_root(u32 dev, u32 mode);

void random_bytes(void *to, size_t n); /* kernel/proc/random.c */
void sigpipe(void);                    /* SIGPIPE to the caller */

#endif
