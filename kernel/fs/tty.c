/*
 * fs/tty.c - the line discipline of terminals (termios(3)) and the console.
 *
 * Characters come from an interrupt, are edited and echoed there under the tty's spin lock, and are
 * read by tasks.  With stdin given by the host as a plain stream the console is no terminal: bytes
 * pass untouched and the end of the stream is the end of the file.
 */
#include "procpid.h"
#include "tty.h"
#include <signal.h>

enum {
    VINTR,
    VQUIT,
    VERASE,
    VKILL,
    VEOF,
    VTIME,
    VMIN,
    VSWTC,
    VSTART,
    VSTOP,
    VSUSP,
    VEOL,
    VREPRINT,
    VDISCARD,
    VWERASE,
    VLNEXT,
    VEOL2
};

#define I_ISTRIP  040u
#define I_INLCR   0100u
#define I_IGNCR   0200u
#define I_ICRNL   0400u
#define I_IXON    02000u
#define O_OPOST   1u
#define O_ONLCR   4u
#define L_ISIG    1u
#define L_ICANON  2u
#define L_ECHO    010u
#define L_ECHOE   020u
#define L_ECHOK   040u
#define L_ECHONL  0100u
#define L_NOFLSH  0200u
#define L_TOSTOP  0400u
#define L_ECHOCTL 01000u
#define L_ECHOKE  04000u
#define L_IEXTEN  0100000u

#define SIGHUP    1
#define SIGINT    2
#define SIGQUIT   3
#define SIGCONT   18
#define SIGTSTP   20
#define SIGTTIN   21
#define SIGTTOU   22
#define SIGWINCH  28
#define SI_KERNEL 0x80

static size_t console_out(struct tty *t, int stream, const char *p, size_t n);

struct tty console_tty = {.out = console_out, .rdev = MAKEDEV(5, 1)};

int tty_setup(struct tty *t)
{
    static const u8 cc[NCCS] = {3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0};

    t->ring = quire_kvmalloc(TTY_RING, QUIRE_GFP_KERNEL);
    t->marks = quire_kvmalloc(TTY_RING, QUIRE_GFP_KERNEL);
    if (!t->ring || !t->marks) {
        quire_kvfree(t->ring);
        quire_kvfree(t->marks);
        return -ENOMEM;
    }
    t->t = (struct ktermios){.iflag = I_ICRNL | I_IXON,
                             .oflag = O_OPOST | O_ONLCR,
                             .cflag = 0xbf,
                             .lflag = L_ISIG | L_ICANON | L_ECHO | L_ECHOE | L_ECHOK | L_ECHOCTL |
                                      L_ECHOKE | L_IEXTEN};
    memcpy(t->t.cc, cc, sizeof cc);
    t->size = (struct kwinsize){24, 80, 0, 0};
    return 0;
}

/* ---- output ---- */

static size_t console_out(struct tty *t, int stream, const char *p, size_t n)
{
    (void)t;
    console_write(stream, p, n);
    return n;
}

/* Translated output; how many bytes of p went out. */
static size_t output(struct tty *t, int stream, const char *p, size_t n)
{
    size_t done = 0;

    if (t->stream || (t->t.oflag & (O_OPOST | O_ONLCR)) != (O_OPOST | O_ONLCR))
        return t->out(t, stream, p, n);
    while (done < n) {
        size_t run = 0, sent;

        while (done + run < n && p[done + run] != '\n')
            run++;
        sent = run ? t->out(t, stream, p + done, run) : 0;
        done += sent;
        if (sent < run)
            break;
        if (done < n) {
            if (t->out(t, stream, "\r\n", 2) < 2)
                break;
            done++;
        }
    }
    return done;
}

/* ---- input, in an interrupt; t->lock held ---- */

static void echo_text(struct tty *t, const char *p, size_t n) { (void)output(t, 1, p, n); }

static void echo(struct tty *t, u8 c)
{
    char text[2] = {'^', (char)(c ^ 0100)};

    if (!(t->t.lflag & L_ECHO))
        return;
    if ((t->t.lflag & L_ECHOCTL) && (c < 32 || c == 127) && c != '\n' && c != '\t')
        echo_text(t, text, 2);
    else
        echo_text(t, (const char *)&c, 1);
}

size_t tty_room(const struct tty *t) { return TTY_RING - (t->head - t->tail); }

static void store(struct tty *t, u8 c, u8 mark)
{
    if (!tty_room(t))
        return;
    t->ring[t->head % TTY_RING] = c;
    t->marks[t->head % TTY_RING] = mark;
    t->head++;
}

static void erase_one(struct tty *t)
{
    u8 c = t->ring[--t->head % TTY_RING];

    if ((t->t.lflag & (L_ECHO | L_ECHOE)) == (L_ECHO | L_ECHOE)) {
        echo_text(t, "\b \b", 3);
        if ((t->t.lflag & L_ECHOCTL) && c < 32 && c != '\t')
            echo_text(t, "\b \b", 3);
    }
}

static void erase_word(struct tty *t)
{
    while (t->head != t->commit && t->ring[(t->head - 1) % TTY_RING] == ' ')
        erase_one(t);
    while (t->head != t->commit && t->ring[(t->head - 1) % TTY_RING] != ' ')
        erase_one(t);
}

static void commit(struct tty *t)
{
    t->commit = t->head;
    waitq_wake_all(&t->wait);
}

/* Line editing; true if c was a command. */
static bool edit(struct tty *t, u8 c)
{
    const u8 *cc = t->t.cc;

    if (c == cc[VERASE] || c == '\b') {
        if (t->head != t->commit)
            erase_one(t);
        return true;
    }
    if (c == cc[VKILL] && c) {
        while (t->head != t->commit)
            erase_one(t);
        return true;
    }
    if (c == cc[VWERASE] && c && (t->t.lflag & L_IEXTEN)) {
        erase_word(t);
        return true;
    }
    if (c == cc[VEOF] && c) {
        store(t, 0, MARK_EOF);
        commit(t);
        return true;
    }
    if (c == '\n' || (c && (c == cc[VEOL] || c == cc[VEOL2]))) {
        if (t->t.lflag & (L_ECHO | L_ECHONL))
            echo_text(t, (const char *)&c, 1);
        store(t, c, MARK_LINE);
        commit(t);
        return true;
    }
    return false;
}

int tty_signal(struct tty *t, int signo)
{
    struct ksiginfo si = {.signo = signo, .code = SI_KERNEL};

    return t->pgrp > 0 ? signal_pgrp(t->pgrp, &si) : -ESRCH;
}

static int signal_of(const struct tty *t, u8 c)
{
    if (!(t->t.lflag & L_ISIG) || !c)
        return 0;
    return c == t->t.cc[VINTR]   ? SIGINT
           : c == t->t.cc[VQUIT] ? SIGQUIT
           : c == t->t.cc[VSUSP] ? SIGTSTP
                                 : 0;
}

/* Returns a signal that is due to the foreground group. */
static int receive_one(struct tty *t, u8 c)
{
    int signo;

    if (t->t.iflag & I_ISTRIP)
        c &= 127;
    if (!t->lnext) {
        signo = signal_of(t, c);
        if (signo) {
            if (!(t->t.lflag & L_NOFLSH))
                t->tail = t->commit = t->head;
            echo(t, c);
            return signo;
        }
        if ((t->t.iflag & I_IXON) && (c == t->t.cc[VSTART] || c == t->t.cc[VSTOP]) && c) {
            t->stopped = c == t->t.cc[VSTOP];
            waitq_wake_all(&t->wait);
            return 0;
        }
        if (c == '\r' && (t->t.iflag & I_IGNCR))
            return 0;
        if (c == '\r' && (t->t.iflag & I_ICRNL))
            c = '\n';
        else if (c == '\n' && (t->t.iflag & I_INLCR))
            c = '\r';
    }
    if (!(t->t.lflag & L_ICANON)) {
        echo(t, c);
        store(t, c, MARK_NONE);
        commit(t);
        return 0;
    }
    if (!t->lnext && c && c == t->t.cc[VLNEXT] && (t->t.lflag & L_IEXTEN)) {
        t->lnext = true;
        return 0;
    }
    if (t->lnext || !edit(t, c)) {
        t->lnext = false;
        echo(t, c);
        store(t, c, MARK_NONE);
    }
    return 0;
}

static void receive_stream(struct tty *t, const u8 *p, size_t n)
{
    for (size_t k = 0; k < n; k++)
        store(t, p[k], MARK_NONE);
    commit(t);
}

void tty_receive(struct tty *t, const u8 *p, size_t n)
{
    unsigned long flags = kspin_lock(&t->lock);

    if (t->stream) {
        receive_stream(t, p, n);
        n = 0;
    }
    for (size_t k = 0; k < n; k++) {
        int signo = receive_one(t, p[k]);

        if (signo) { /* signals take locks that come before ours */
            kspin_unlock(&t->lock, flags);
            tty_signal(t, signo);
            flags = kspin_lock(&t->lock);
        }
    }
    kspin_unlock(&t->lock, flags);
}

void tty_input(const u8 *bytes, size_t n)
{
    if (console_tty.ring)
        tty_receive(&console_tty, bytes, n);
}

size_t tty_input_room(void) { return console_tty.ring ? tty_room(&console_tty) : 0; }

void tty_input_eof(void)
{
    __atomic_store_n(&console_tty.eof, true, __ATOMIC_RELEASE);
    waitq_wake_all(&console_tty.wait);
}

void tty_interrupt(void) { tty_signal(&console_tty, SIGINT); }

int console_session(int sid) { return console_tty.sid == sid && sid ? console_tty.pgrp : 0; }

/* ---- reading ---- */

/* Take what one read gets, at most n bytes; -1: nothing yet.  0 is the end of the file. */
static long take(struct tty *t, u8 *to, size_t n)
{
    unsigned long flags = kspin_lock(&t->lock);
    bool lines = !t->stream && (t->t.lflag & L_ICANON);
    size_t done = 0;
    bool ended = false;

    while (done < n && t->tail != t->commit && !ended) {
        u8 mark = t->marks[t->tail % TTY_RING];

        ended = lines && mark != MARK_NONE;
        if (mark == MARK_EOF) {
            t->tail++;
            continue;
        }
        to[done++] = t->ring[t->tail++ % TTY_RING];
    }
    if (!done && !ended && !(t->eof && t->tail == t->commit))
        done = (size_t)-1;
    kspin_unlock(&t->lock, flags);
    return (long)done;
}

static bool readable(const struct tty *t)
{
    return __atomic_load_n(&t->commit, __ATOMIC_ACQUIRE) != t->tail ||
           __atomic_load_n(&t->eof, __ATOMIC_ACQUIRE);
}

/* A background process may not read: it is stopped, or told so. */
static int check_foreground(struct tty *t, int signo)
{
    struct process *p = current->proc;
    struct ksiginfo si = {.signo = signo, .code = SI_KERNEL};

    if (t->stream || t->sid != p->sid || t->pgrp <= 0 || t->pgrp == p->pgid)
        return 0;
    signal_pgrp(p->pgid, &si);
    return signal_pending(current) ? -ERESTARTSYS : -EIO;
}

static long wait_input(struct tty *t, struct file *f, u64 deadline)
{
    struct waiter w;
    int err = 0;

    if (f->flags & O_NONBLOCK)
        return -EAGAIN;
    waitq_add(&t->wait, &w);
    for (;;) {
        wait_prepare();
        if (readable(t))
            break;
        err = wait_sleep(deadline);
        if (err && !readable(t))
            break;
        err = 0;
    }
    wait_finish();
    waitq_remove(&w);
    return err == -EINTR ? -ERESTARTSYS : err;
}

long tty_read(struct tty *t, struct file *f, struct uio *u)
{
    size_t want = K_MIN(u->left, (size_t)4096);
    u8 *buf;
    long n;
    bool raw = !t->stream && !(t->t.lflag & L_ICANON);
    u64 deadline = WAIT_FOREVER;

    if (!want)
        return 0;
    n = check_foreground(t, SIGTTIN);
    if (n)
        return n;
    buf = quire_kmalloc(want, QUIRE_GFP_KERNEL);
    if (!buf)
        return -ENOMEM;
    if (raw && !t->t.cc[VMIN])
        deadline = ktime_ns() + t->t.cc[VTIME] * 100000000ull;
    for (;;) {
        n = take(t, buf, want);
        if (n >= 0)
            break;
        n = raw && !t->t.cc[VMIN] && !t->t.cc[VTIME] ? -ETIMEDOUT : wait_input(t, f, deadline);
        if (n) {
            n = n == -ETIMEDOUT ? 0 : n;
            break;
        }
    }
    if (t == &console_tty && n > 0)
        console_input_resume();
    if (n > 0 && uio_put(u, buf, (size_t)n))
        n = -EFAULT;
    quire_kfree(buf);
    return n;
}

static int wait_unstopped(struct tty *t)
{
    return t->stopped ? WAIT_EVENT(&t->wait, !t->stopped) : 0;
}

long tty_write(struct tty *t, int stream, struct file *f, struct uio *u)
{
    char *buf;
    long done = 0;
    int err = t->t.lflag & L_TOSTOP ? check_foreground(t, SIGTTOU) : 0;

    if (err)
        return err;
    buf = quire_kmalloc(4096, QUIRE_GFP_KERNEL);
    if (!buf)
        return -ENOMEM;
    while (u->left && !err) {
        size_t want = K_MIN(u->left, (size_t)4096), n, sent = 0;

        n = uio_get_part(u, buf, want);
        if (n < want)
            err = -EFAULT;
        while (sent < n) {
            size_t k;

            if (wait_unstopped(t)) {
                err = -ERESTARTSYS;
                break;
            }
            k = output(t, stream, buf + sent, n - sent);
            sent += k;
            if (!k && sent < n) {
                err = f->flags & O_NONBLOCK ? -EAGAIN : -EIO;
                break;
            }
        }
        done += (long)sent;
        cond_resched();
    }
    quire_kfree(buf);
    return done ? done : err;
}

unsigned tty_poll(struct tty *t, struct poll_table *pt)
{
    poll_add(pt, &t->wait);
    return POLL_OUT | (readable(t) ? POLL_IN : 0) | (t->eof && !t->stream ? POLL_HUP : 0);
}

/* ---- control ---- */

/* The session whose terminal this is; one whose leader has gone has left it. */
static int session(struct tty *t)
{
    struct process *leader = t->sid ? process_find(t->sid) : NULL;
    bool gone = !leader || leader->zombie;

    if (leader)
        process_put(leader);
    if (gone)
        t->sid = t->pgrp = 0;
    return t->sid;
}

void tty_take_control(struct tty *t)
{
    struct process *p = current->proc;

    if (p->sid != p->pid || session(t))
        return;
    t->sid = p->sid;
    t->pgrp = p->pgid;
}

#define TCGETS     0x5401
#define TCSETS     0x5402
#define TCSETSW    0x5403
#define TCSETSF    0x5404
#define TCSBRK     0x5409
#define TCXONC     0x540a
#define TCFLSH     0x540b
#define TIOCSCTTY  0x540e
#define TIOCGPGRP  0x540f
#define TIOCSPGRP  0x5410
#define TIOCOUTQ   0x5411
#define TIOCGWINSZ 0x5413
#define TIOCSWINSZ 0x5414
#define FIONREAD   0x541b
#define TIOCNOTTY  0x5422
#define TCSBRKP    0x5425
#define TIOCGSID   0x5429
#define TCGETS2    0x802c542au
#define TCSETS2    0x402c542bu
#define TCSETSW2   0x402c542cu
#define TCSETSF2   0x402c542du

static void flush_input(struct tty *t)
{
    unsigned long flags = kspin_lock(&t->lock);

    t->tail = t->commit = t->head;
    kspin_unlock(&t->lock, flags);
}

static long get_modes(struct tty *t, u64 arg, bool two)
{
    struct {
        struct ktermios t;
        u32 ispeed, ospeed;
    } m = {t->t, 38400, 38400};

    return copy_to_user(arg, &m, two ? sizeof m : sizeof m.t);
}

static long set_modes(struct tty *t, u64 arg, bool flush)
{
    struct ktermios m;
    unsigned long flags;

    if (copy_from_user(&m, arg, sizeof m))
        return -EFAULT;
    if (flush)
        flush_input(t);
    flags = kspin_lock(&t->lock);
    if ((t->t.lflag & L_ICANON) && !(m.lflag & L_ICANON))
        t->commit = t->head; /* what was typed so far is readable now */
    t->t = m;
    kspin_unlock(&t->lock, flags);
    waitq_wake_all(&t->wait);
    return 0;
}

static long set_pgrp(struct tty *t, u64 arg)
{
    u32 pgrp;

    if (get_user_u32(&pgrp, arg))
        return -EFAULT;
    if (t->sid != current->proc->sid)
        return -ENOTTY;
    if ((int)pgrp <= 0)
        return -EINVAL;
    t->pgrp = (int)pgrp;
    return 0;
}

static long set_size(struct tty *t, u64 arg)
{
    struct kwinsize s;

    if (copy_from_user(&s, arg, sizeof s))
        return -EFAULT;
    if (memcmp(&s, &t->size, sizeof s)) {
        t->size = s;
        tty_signal(t, SIGWINCH);
    }
    return 0;
}

static long control(struct tty *t, u64 arg)
{
    struct process *p = current->proc;

    if (t->sid == p->sid && p->sid == p->pid)
        return 0;
    if (p->sid != p->pid)
        return -EPERM;
    if (session(t) && !(arg == 1 && fs_uid() == 0))
        return -EPERM;
    t->sid = p->sid;
    t->pgrp = p->pgid;
    return 0;
}

static u32 waiting_input(struct tty *t) { return t->commit - t->tail; }

static long tty_session_ioctl(struct tty *t, unsigned cmd, u64 arg)
{
    switch (cmd) {
    case TIOCSCTTY: return control(t, arg);
    case TIOCNOTTY:
        if (t->sid != current->proc->sid)
            return -ENOTTY;
        if (current->proc->sid == current->proc->pid)
            t->sid = t->pgrp = 0;
        return 0;
    case TIOCGPGRP: return t->sid == current->proc->sid ? put_user_u32(arg, (u32)t->pgrp) : -ENOTTY;
    case TIOCSPGRP: return set_pgrp(t, arg);
    case TIOCGSID: return t->sid == current->proc->sid ? put_user_u32(arg, (u32)t->sid) : -ENOTTY;
    default: return -ENOTTY;
    }
}

long tty_ioctl(struct tty *t, struct file *f, unsigned cmd, u64 arg)
{
    (void)f;
    if (cmd == FIONREAD)
        return put_user_u32(arg, waiting_input(t));
    if (t->stream)
        return -ENOTTY;
    switch (cmd) {
    case TCGETS:
    case TCGETS2: return get_modes(t, arg, cmd == TCGETS2);
    case TCSETS:
    case TCSETSW:
    case TCSETS2:
    case TCSETSW2: return set_modes(t, arg, false);
    case TCSETSF:
    case TCSETSF2: return set_modes(t, arg, true);
    case TCSBRK:
    case TCSBRKP: return 0;
    case TCXONC:
        if (arg > 3)
            return -EINVAL;
        if (arg < 2) {
            t->stopped = arg == 0;
            waitq_wake_all(&t->wait);
        }
        return 0;
    case TCFLSH:
        if (arg > 2)
            return -EINVAL;
        if (arg != 1)
            flush_input(t);
        return 0;
    case TIOCOUTQ: return put_user_u32(arg, 0);
    case TIOCGWINSZ: return copy_to_user(arg, &t->size, sizeof t->size);
    case TIOCSWINSZ: return set_size(t, arg);
    default: return tty_session_ioctl(t, cmd, arg);
    }
}

/* ---- the console as files; inode.key of a stream, else file.priv, is where output goes ---- */

static int stream_of(const struct file *f) { return f->priv ? (int)(uintptr_t)f->priv : 1; }

static long console_read(struct file *f, struct uio *u, u64 *pos)
{
    (void)pos;
    return tty_read(&console_tty, f, u);
}

static long console_file_write(struct file *f, struct uio *u, u64 *pos)
{
    (void)pos;
    return tty_write(&console_tty, stream_of(f), f, u);
}

static long console_ioctl(struct file *f, unsigned cmd, u64 arg)
{
    return tty_ioctl(&console_tty, f, cmd, arg);
}

static unsigned console_poll(struct file *f, struct poll_table *pt)
{
    (void)f;
    return tty_poll(&console_tty, pt);
}

const struct file_ops tty_ops = {
    .read = console_read,
    .write = console_file_write,
    .ioctl = console_ioctl,
    .poll = console_poll,
};

static int stream_open(struct file *f)
{
    f->ops = &tty_ops;
    f->priv = (void *)(uintptr_t)f->inode->key;
    return 0;
}

static const struct inode_ops stream_inode_ops = {.open = stream_open};

static struct file *open_console(int fd, u32 flags)
{
    struct inode *i;
    struct dentry *d;
    struct file *f;
    char name[32];

    if (!console_tty.stream) {
        struct walk w;

        if (path_walk(AT_FDCWD, "/dev/console", WALK_FOLLOW, &w))
            return NULL;
        d = w.d;
    } else {
        i = inode_new(S_IFIFO | 0600, MAKEDEV(0, 13));
        if (!i)
            return NULL;
        i->ops = &stream_inode_ops;
        i->key = (u64)K_MAX(fd, 1);
        ksnprintf(name, sizeof name, "pipe:[%lu]", (unsigned long)i->ino);
        d = dentry_nameless(i, name);
        if (!d)
            return NULL;
    }
    f = file_on(d, &tty_ops, flags);
    if (f)
        f->priv = (void *)(uintptr_t)K_MAX(fd, 1);
    return f;
}

/* Is the host's side a stream (pipes, files) instead of somebody at a keyboard? */
static bool host_gives_streams(void)
{
    char value[16];

    if (cmdline_has("quire.tty"))
        return false;
    return cmdline_get("quire.stdin", value, sizeof value) ||
           cmdline_get("quire.out", value, sizeof value);
}

/* quire.tty=ROWSxCOLUMNS: the window of whoever sits there. */
static void size_from_host(struct kwinsize *size)
{
    char value[16];
    const char *rest;
    u64 rows, cols;

    if (!cmdline_get("quire.tty", value, sizeof value))
        return;
    rows = kstrtou64(value, &rest);
    cols = *rest == 'x' ? kstrtou64(rest + 1, NULL) : 0;
    if (rows && cols && rows < 1000 && cols < 1000)
        *size = (struct kwinsize){(u16)rows, (u16)cols, 0, 0};
}

int tty_init(void)
{
    int err = tty_setup(&console_tty);

    console_tty.stream = host_gives_streams();
    size_from_host(&console_tty.size);
    return err;
}

int console_open_fds(void)
{
    int err;

    for (int fd = 0; fd < 3; fd++) {
        struct file *f = open_console(fd, console_tty.stream && fd ? O_WRONLY
                                          : console_tty.stream     ? O_RDONLY
                                                                   : O_RDWR);

        if (!f)
            return -ENOMEM;
        err = fd_install(f, false, fd);
        if (err < 0)
            return err;
    }
    console_tty.sid = current->proc->sid;
    console_tty.pgrp = current->proc->pgid;
    return 0;
}
