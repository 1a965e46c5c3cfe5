/*
 * fs/tty.h - terminals: the console, and what ptys share with it.
 */
#ifndef FS_TTY_H
#define FS_TTY_H

#include "fsint.h"

#define TTY_RING 65536u /* power of two */
#define NCCS     19

struct ktermios {
    u32 iflag, oflag, cflag, lflag;
    u8 line, cc[NCCS];
};

struct kwinsize {
    u16 rows, cols, xpixel, ypixel;
};

enum { MARK_NONE, MARK_LINE, MARK_EOF };

/*
 * Input lies in a ring from tail to head; [tail, commit) may be read.  In canonical mode the line
 * being edited is [commit, head).  A mark says that a line ends with this byte, or (EOF) before it.
 */
struct tty {
    struct kspin lock;
    u8 *ring, *marks;
    u32 tail, commit, head; /* free running */
    bool stream;            /* not a terminal at all: bytes in, bytes out */
    bool eof;               /* no more input will come */
    bool lnext;             /* the next character is literal */
    bool stopped;           /* ^S */
    struct ktermios t;
    struct kwinsize size;
    int sid, pgrp;
    struct waitq wait;
    u32 rdev;
    /* Output, also echo, which may come from an interrupt; returns what was taken. */
    size_t (*out)(struct tty *, int stream, const char *p, size_t n);
    struct pty *pty;
};

extern struct tty console_tty;

int tty_init(void);
int tty_setup(struct tty *t); /* rings and Linux's default modes */
void tty_receive(struct tty *t, const u8 *p, size_t n);
size_t tty_room(const struct tty *t);
int tty_signal(struct tty *t, int signo);
long tty_read(struct tty *t, struct file *f, struct uio *u);
long tty_write(struct tty *t, int stream, struct file *f, struct uio *u);
long tty_ioctl(struct tty *t, struct file *f, unsigned cmd, u64 arg);
unsigned tty_poll(struct tty *t, struct poll_table *pt);
void tty_take_control(
    struct tty *t); /* of the caller's session, if it leads one without a terminal */

/* ---- pty.c ---- */
int ptmx_open(struct file *f);
int pts_open(struct file *f);
extern const struct inode_ops pts_dir_ops;

#endif
