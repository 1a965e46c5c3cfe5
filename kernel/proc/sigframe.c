/*
 * kernel/proc/sigframe.c - the frame that a handler finds on its stack, and the way back.
 *
 * Byte for byte Linux's struct rt_sigframe for x86-64, for glibc, musl, unwinders and debuggers read it:
 *
 *     high   [red zone of the interrupted code, 128 bytes]
 *            vector state, 64-byte aligned: FXSAVE image, or XSAVE image and a closing magic word
 *            siginfo     128
 *            ucontext    304: flags, link, stack, registers, pointer to the vector state, mask
 *     rsp -> return address: the restorer
 *
 * Nothing of the frame is trusted on the way back: flags, selectors, addresses and the vector state are
 * checked, for the program may have written what it likes.
 */
#include "proc.h"

#define USER_CS 0x33
#define USER_SS 0x2b

#define UC_FP_XSTATE         1ul
#define UC_SIGCONTEXT_SS     2ul
#define UC_STRICT_RESTORE_SS 4ul

#define FLAG_DF 0x400ul
#define FLAG_TF 0x100ul
#define FLAG_RF 0x10000ul
/* AC OF DF TF SF ZF AF PF CF RF: what sigreturn may change. */
#define FLAGS_RESTORED 0x50dd5ul

#define FXSAVE_SIZE 512u
#define SW_BYTES_AT 464u
#define FP_MAGIC1   0x46505853u
#define FP_MAGIC2   0x46505845u
#define RED_ZONE    128u
#define MINSIGSTKSZ 2048u

struct user_stack {
    u64 sp;
    u32 flags, pad;
    u64 size;
};

struct sigcontext {
    u64 r8, r9, r10, r11, r12, r13, r14, r15, di, si, bp, bx, dx, ax, cx, sp, ip, flags;
    u16 cs, gs, fs, ss;
    u64 err, trapno, oldmask, cr2, fpstate, reserved[8];
};

struct ucontext {
    u64 flags, link;
    struct user_stack stack;
    struct sigcontext mc;
    u64 mask;
};

struct sigframe {
    u64 restorer;
    struct ucontext uc;
    u8 info[128];
};

_Static_assert(sizeof(struct sigcontext) == 256 && sizeof(struct ucontext) == 304, "Linux's ABI");
_Static_assert(sizeof(struct sigframe) == 440, "Linux's ABI");

struct fp_software_bytes {
    u32 magic1, extended_size;
    u64 features;
    u32 state_size, pad[7];
};

static u64 xcr0(void)
{
    u32 lo, hi;

    __asm__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (u64)hi << 32 | lo;
}

/* ---- the alternate stack ---- */

static bool on_altstack(const struct task_signals *s, u64 sp)
{
    return !(s->alt_flags & SS_AUTODISARM) && sp > s->alt_sp && sp - s->alt_sp <= s->alt_size;
}

static u32 altstack_state(const struct task_signals *s, u64 sp)
{
    if (!s->alt_size)
        return SS_DISABLE;
    return on_altstack(s, sp) ? SS_ONSTACK : 0;
}

static int altstack_set(struct task_signals *s, const struct user_stack *new, u64 sp)
{
    u32 mode = new->flags & ~SS_AUTODISARM;

    if (on_altstack(s, sp))
        return -EPERM;
    if (mode != SS_DISABLE && mode != SS_ONSTACK && mode != 0)
        return -EINVAL;
    if (mode == SS_DISABLE) {
        s->alt_sp = s->alt_size = 0;
    } else {
        if (new->size < MINSIGSTKSZ)
            return -ENOMEM;
        s->alt_sp = new->sp;
        s->alt_size = new->size;
    }
    s->alt_flags = new->flags;
    return 0;
}

long sys_sigaltstack(u64 unew, u64 uold)
{
    struct task_signals *s = current->sig;
    u64 sp = current->regs->rsp;
    struct user_stack new, old = {.sp = s->alt_sp,
                                  .flags = altstack_state(s, sp) | (s->alt_flags & SS_AUTODISARM),
                                  .size = s->alt_size};
    int err;

    if (unew && copy_from_user(&new, unew, sizeof(new)))
        return -EFAULT;
    err = unew ? altstack_set(s, &new, sp) : 0;
    if (!err && uold && copy_to_user(uold, &old, sizeof(old)))
        return -EFAULT;
    return err;
}

/* ---- siginfo ---- */

static void put32(u8 *out, unsigned at, u32 v) { memcpy(out + at, &v, 4); }
static void put64(u8 *out, unsigned at, u64 v) { memcpy(out + at, &v, 8); }

void siginfo_to_user_bytes(const struct ksiginfo *si, const u64 extra[2], u8 out[128])
{
    memset(out, 0, 128);
    put32(out, 0, (u32)si->signo);
    put32(out, 4, (u32)si->err);
    put32(out, 8, (u32)si->code);
    if (si->code == SI_TIMER) {
        put32(out, 16, (u32)si->timerid);
        put32(out, 20, (u32)si->overrun);
        put64(out, 24, si->value);
    } else if (si->code > 0 && si->code < SI_KERNEL && SIGBIT(si->signo) & SIGS_SYNC) {
        put64(out, 16, si->addr);
    } else {
        put32(out, 16, (u32)si->pid);
        put32(out, 20, (u32)si->uid);
        if (si->signo == SIGCHLD && si->code > 0)
            put32(out, 24, (u32)si->status);
        else
            put64(out, 24, si->value);
        if (extra)
            memcpy(out + 32, extra, 16);
    }
}

/* ---- entering a handler ---- */

static size_t fp_bytes(void) { return fpu_size() > FXSAVE_SIZE ? fpu_size() + 4 : FXSAVE_SIZE; }

static u64 frame_place(const struct regs *r, const struct sigaction_k *act, u64 *fp)
{
    struct task_signals *s = current->sig;
    u64 sp = r->rsp - RED_ZONE;
    bool was_on = on_altstack(s, r->rsp), enters = false;

    if (act->flags & SA_ONSTACK && altstack_state(s, r->rsp) == 0) {
        sp = s->alt_sp + s->alt_size;
        enters = true;
    }
    *fp = K_DOWN(sp - fp_bytes(), 64);
    sp = K_DOWN(*fp - sizeof(struct sigframe), 16) - 8;
    /* An alternate stack that is too small must not be overrun. */
    if ((was_on || enters) && (sp <= s->alt_sp || sp - s->alt_sp > s->alt_size))
        return 0;
    return sp;
}

static int put_fp(u64 at)
{
    size_t size = fpu_size();
    u8 *area = current->fpu;

    fpu_save_current();
    if (size <= FXSAVE_SIZE) {
        memset(area + SW_BYTES_AT, 0, FXSAVE_SIZE - SW_BYTES_AT);
        return copy_to_user(at, area, FXSAVE_SIZE);
    }
    struct fp_software_bytes sw = {.magic1 = FP_MAGIC1,
                                   .extended_size = (u32)size + 4,
                                   .features = xcr0(),
                                   .state_size = (u32)size};
    memcpy(area + SW_BYTES_AT, &sw, sizeof(sw));
    return copy_to_user(at, area, size) || put_user_u32(at + size, FP_MAGIC2);
}

static void put_registers(struct sigcontext *mc, const struct regs *r, u64 mask, u64 fp)
{
    *mc = (struct sigcontext){.r8 = r->r8,
                              .r9 = r->r9,
                              .r10 = r->r10,
                              .r11 = r->r11,
                              .r12 = r->r12,
                              .r13 = r->r13,
                              .r14 = r->r14,
                              .r15 = r->r15,
                              .di = r->rdi,
                              .si = r->rsi,
                              .bp = r->rbp,
                              .bx = r->rbx,
                              .dx = r->rdx,
                              .ax = r->rax,
                              .cx = r->rcx,
                              .sp = r->rsp,
                              .ip = r->rip,
                              .flags = r->rflags,
                              .cs = (u16)r->cs,
                              .ss = (u16)r->ss,
                              .err = current->trap_err,
                              .trapno = current->trap_no,
                              .oldmask = mask,
                              .cr2 = current->trap_addr,
                              .fpstate = fp};
}

int sigframe_push(struct regs *r, const struct sigaction_k *act, const struct sigentry *e, u64 mask)
{
    struct task_signals *s = current->sig;
    struct sigframe f = {.restorer = act->restorer};
    u64 fp, at = frame_place(r, act, &fp);

    if (!at || !(act->flags & SA_RESTORER))
        return -EFAULT;
    f.uc.flags =
        UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS | (fpu_size() > FXSAVE_SIZE ? UC_FP_XSTATE : 0);
    f.uc.stack = (struct user_stack){.sp = s->alt_sp, .flags = s->alt_flags, .size = s->alt_size};
    put_registers(&f.uc.mc, r, mask, fp);
    f.uc.mask = mask;
    siginfo_to_user_bytes(&e->si, e->extra, f.info);
    if (put_fp(fp) || copy_to_user(at, &f, sizeof(f)))
        return -EFAULT;
    if (s->alt_flags & SS_AUTODISARM) {
        s->alt_sp = s->alt_size = 0;
        s->alt_flags = SS_DISABLE;
    }
    r->rdi = (u64)e->si.signo;
    r->rax = 0;
    r->rsi = at + offsetof(struct sigframe, info);
    r->rdx = at + offsetof(struct sigframe, uc);
    r->rip = act->handler;
    r->rsp = at;
    r->rflags &= ~(FLAG_DF | FLAG_TF | FLAG_RF);
    r->cs = USER_CS;
    r->ss = USER_SS;
    return act->handler < USER_END ? 0 : -EFAULT;
}

/* ---- and back ---- */

/* Reserved bits of MXCSR, and of the XSAVE header, make the restoring instruction fault. */
static void sanitise_fp(u8 *area, bool extended)
{
    u32 mxcsr;

    memcpy(&mxcsr, area + 24, 4);
    mxcsr &= 0xffff;
    memcpy(area + 24, &mxcsr, 4);
    memset(area + SW_BYTES_AT, 0, FXSAVE_SIZE - SW_BYTES_AT);
    if (fpu_size() > FXSAVE_SIZE) {
        u64 header[8] = {3};

        if (extended) {
            memcpy(header, area + FXSAVE_SIZE, 8);
            header[0] &= xcr0();
        }
        memcpy(area + FXSAVE_SIZE, header, sizeof(header));
    }
}

static int restore_fp(u64 at)
{
    u8 *area = current->fpu;
    size_t size = fpu_size();
    struct fp_software_bytes sw;
    u32 magic2;
    bool extended = false;

    if (!at) {
        fpu_reset_current();
        return 0;
    }
    if (size > FXSAVE_SIZE) {
        if (copy_from_user(&sw, at + SW_BYTES_AT, sizeof(sw)))
            return -EFAULT;
        extended = sw.magic1 == FP_MAGIC1 && sw.state_size == size &&
                   sw.extended_size == size + 4 && !get_user_u32(&magic2, at + size) &&
                   magic2 == FP_MAGIC2;
    }
    if (copy_from_user(area, at, extended ? size : FXSAVE_SIZE)) {
        fpu_reset_current();
        return -EFAULT;
    }
    sanitise_fp(area, extended);
    fpu_load_current();
    return 0;
}

static void get_registers(struct regs *r, const struct sigcontext *mc)
{
    r->r8 = mc->r8, r->r9 = mc->r9, r->r10 = mc->r10, r->r11 = mc->r11;
    r->r12 = mc->r12, r->r13 = mc->r13, r->r14 = mc->r14, r->r15 = mc->r15;
    r->rdi = mc->di, r->rsi = mc->si, r->rbp = mc->bp, r->rbx = mc->bx;
    r->rdx = mc->dx, r->rax = mc->ax, r->rcx = mc->cx, r->rsp = mc->sp, r->rip = mc->ip;
    r->rflags = (r->rflags & ~FLAGS_RESTORED) | (mc->flags & FLAGS_RESTORED);
    r->orig_rax = (u64)-1;
}

long sys_rt_sigreturn(void)
{
    struct regs *r = current->regs;
    u64 at = r->rsp - 8;
    struct ucontext uc;

    if (copy_from_user(&uc, at + offsetof(struct sigframe, uc), sizeof(uc)))
        goto bad;
    current->sig->restart.fn = NULL;
    signal_mask_set(uc.mask);
    get_registers(r, &uc.mc);
    if (restore_fp(uc.mc.fpstate))
        goto bad;
    (void)altstack_set(current->sig, &uc.stack, r->rsp);
    /* 64-bit programs only: other selectors would fault on the way out, as on Linux. */
    if ((uc.mc.cs | 3) != USER_CS || (uc.flags & UC_SIGCONTEXT_SS && (uc.mc.ss | 3) != USER_SS) ||
        r->rip >= USER_END)
        goto bad;
    return (long)r->rax;
bad:
    signal_forced(SIGSEGV);
    return (long)r->rax;
}
