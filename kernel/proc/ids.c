/*
 * kernel/proc/ids.c - users, groups, capabilities: credentials(7), capabilities(7).
 *
 * Credentials belong to the process here; glibc and musl set them for all threads anyway.
 */
#include "proc.h"

#define UNCHANGED 0xffffffffu

bool capable(unsigned cap) { return current_process()->cap_effective >> cap & 1; }

bool signal_permitted(struct process *p, int signo)
{
    struct process *me = current_process();

    if (p == me || capable(CAP_KILL) || me->euid == p->uid || me->euid == p->suid ||
        me->uid == p->uid || me->uid == p->suid)
        return true;
    return signo == SIGCONT && p->sid == me->sid;
}

long sys_getpid(void) { return current_process()->pid; }
long sys_gettid(void) { return current->tid; }
long sys_getuid(void) { return current_process()->uid; }
long sys_geteuid(void) { return current_process()->euid; }
long sys_getgid(void) { return current_process()->gid; }
long sys_getegid(void) { return current_process()->egid; }

long sys_getppid(void) { return __atomic_load_n(&current_process()->ppid, __ATOMIC_RELAXED); }

/* Root's capabilities follow the user ids. */
static void user_changed(struct process *p, u32 uid, u32 euid, u32 suid)
{
    bool had = uid == 0 || euid == 0 || suid == 0;
    bool has = p->uid == 0 || p->euid == 0 || p->suid == 0;

    if (had && !has && !p->keep_caps)
        p->cap_permitted = p->cap_effective = 0;
    if (had && !has)
        p->cap_ambient = 0;
    if (euid == 0 && p->euid != 0)
        p->cap_effective = 0;
    if (euid != 0 && p->euid == 0)
        p->cap_effective = p->cap_permitted;
    if (p->euid != euid)
        p->dumpable = 0;
    limits_apply(p, current->space);
}

static void set_users(struct process *p, u32 uid, u32 euid, u32 suid)
{
    u32 o = p->uid, oe = p->euid, os = p->suid;

    p->uid = uid;
    p->euid = p->fsuid = euid;
    p->suid = suid;
    user_changed(p, o, oe, os);
}

static bool one_of(u32 id, u32 a, u32 b, u32 c)
{
    return id == UNCHANGED || id == a || id == b || id == c;
}

long sys_setuid(u32 uid)
{
    struct process *p = current_process();

    if (uid == UNCHANGED)
        return -EINVAL;
    if (capable(CAP_SETUID))
        set_users(p, uid, uid, uid);
    else if (uid == p->uid || uid == p->suid)
        set_users(p, p->uid, uid, p->suid);
    else
        return -EPERM;
    return 0;
}

long sys_setreuid(u32 r, u32 e)
{
    struct process *p = current_process();
    u32 uid = r == UNCHANGED ? p->uid : r, euid = e == UNCHANGED ? p->euid : e;
    bool saved = r != UNCHANGED || (e != UNCHANGED && e != p->uid);

    if (!capable(CAP_SETUID) &&
        (!one_of(r, p->uid, p->euid, p->euid) || !one_of(e, p->uid, p->euid, p->suid)))
        return -EPERM;
    set_users(p, uid, euid, saved ? euid : p->suid);
    return 0;
}

long sys_setresuid(u32 r, u32 e, u32 s)
{
    struct process *p = current_process();

    if (!capable(CAP_SETUID) &&
        (!one_of(r, p->uid, p->euid, p->suid) || !one_of(e, p->uid, p->euid, p->suid) ||
         !one_of(s, p->uid, p->euid, p->suid)))
        return -EPERM;
    set_users(p, r == UNCHANGED ? p->uid : r, e == UNCHANGED ? p->euid : e,
              s == UNCHANGED ? p->suid : s);
    return 0;
}

static int put_three(u64 a, u64 b, u64 c, u32 x, u32 y, u32 z)
{
    return put_user_u32(a, x) || put_user_u32(b, y) || put_user_u32(c, z) ? -EFAULT : 0;
}

long sys_getresuid(u64 r, u64 e, u64 s)
{
    struct process *p = current_process();

    return put_three(r, e, s, p->uid, p->euid, p->suid);
}

long sys_setfsuid(u32 uid)
{
    struct process *p = current_process();
    u32 old = p->fsuid;

    if (uid != UNCHANGED && (capable(CAP_SETUID) || one_of(uid, p->uid, p->euid, p->suid)))
        p->fsuid = uid;
    return old;
}

static void set_groups(struct process *p, u32 gid, u32 egid, u32 sgid)
{
    if (p->egid != egid)
        p->dumpable = 0;
    p->gid = gid;
    p->egid = p->fsgid = egid;
    p->sgid = sgid;
}

long sys_setgid(u32 gid)
{
    struct process *p = current_process();

    if (gid == UNCHANGED)
        return -EINVAL;
    if (capable(CAP_SETGID))
        set_groups(p, gid, gid, gid);
    else if (gid == p->gid || gid == p->sgid)
        set_groups(p, p->gid, gid, p->sgid);
    else
        return -EPERM;
    return 0;
}

long sys_setregid(u32 r, u32 e)
{
    struct process *p = current_process();
    u32 gid = r == UNCHANGED ? p->gid : r, egid = e == UNCHANGED ? p->egid : e;
    bool saved = r != UNCHANGED || (e != UNCHANGED && e != p->gid);

    if (!capable(CAP_SETGID) &&
        (!one_of(r, p->gid, p->egid, p->egid) || !one_of(e, p->gid, p->egid, p->sgid)))
        return -EPERM;
    set_groups(p, gid, egid, saved ? egid : p->sgid);
    return 0;
}

long sys_setresgid(u32 r, u32 e, u32 s)
{
    struct process *p = current_process();

    if (!capable(CAP_SETGID) &&
        (!one_of(r, p->gid, p->egid, p->sgid) || !one_of(e, p->gid, p->egid, p->sgid) ||
         !one_of(s, p->gid, p->egid, p->sgid)))
        return -EPERM;
    set_groups(p, r == UNCHANGED ? p->gid : r, e == UNCHANGED ? p->egid : e,
               s == UNCHANGED ? p->sgid : s);
    return 0;
}

long sys_getresgid(u64 r, u64 e, u64 s)
{
    struct process *p = current_process();

    return put_three(r, e, s, p->gid, p->egid, p->sgid);
}

long sys_setfsgid(u32 gid)
{
    struct process *p = current_process();
    u32 old = p->fsgid;

    if (gid != UNCHANGED && (capable(CAP_SETGID) || one_of(gid, p->gid, p->egid, p->sgid)))
        p->fsgid = gid;
    return old;
}

long sys_getgroups(int size, u64 ulist)
{
    struct process *p = current_process();

    if (size < 0)
        return -EINVAL;
    if (size == 0)
        return p->ngroups;
    if (size < p->ngroups)
        return -EINVAL;
    return copy_to_user(ulist, p->groups, (size_t)p->ngroups * 4) ? -EFAULT : p->ngroups;
}

long sys_setgroups(int size, u64 ulist)
{
    struct process *p = current_process();
    u32 groups[K_COUNT(p->groups)];

    if (!capable(CAP_SETGID))
        return -EPERM;
    if (size < 0 || size > 65536)
        return -EINVAL;
    /* This kernel keeps fewer than Linux's 65,536. */
    if ((size_t)size > K_COUNT(groups))
        return -ENOMEM;
    if (copy_from_user(groups, ulist, (size_t)size * 4))
        return -EFAULT;
    memcpy(p->groups, groups, (size_t)size * 4);
    p->ngroups = size;
    return 0;
}

/* ---- capabilities ---- */

struct cap_header {
    u32 version;
    int pid;
};
#define CAP_V1 0x19980330u
#define CAP_V2 0x20071026u
#define CAP_V3 0x20080522u

/* Words of 32 bits per set, or -errno; an unknown version is answered with ours. */
static int cap_words(u64 uheader, struct cap_header *h)
{
    if (copy_from_user(h, uheader, sizeof(*h)))
        return -EFAULT;
    if (h->version == CAP_V1)
        return 1;
    if (h->version == CAP_V2 || h->version == CAP_V3)
        return 2;
    return put_user_u32(uheader, CAP_V3) ? -EFAULT : -EINVAL;
}

long sys_capget(u64 uheader, u64 udata)
{
    struct cap_header h;
    struct process *p = current_process();
    int words = cap_words(uheader, &h);
    u32 data[6];

    if (words < 0)
        return udata == 0 && words == -EINVAL ? 0 : words;
    if (h.pid < 0)
        return -EINVAL;
    p = h.pid ? process_find(h.pid) : p;
    if (!p)
        return -ESRCH;
    for (int i = 0; i < words; i++) {
        data[3 * i] = (u32)(p->cap_effective >> 32 * i);
        data[3 * i + 1] = (u32)(p->cap_permitted >> 32 * i);
        data[3 * i + 2] = (u32)(p->cap_inheritable >> 32 * i);
    }
    if (h.pid)
        process_put(p);
    return copy_to_user(udata, data, (size_t)words * 12) ? -EFAULT : 0;
}

long sys_capset(u64 uheader, u64 udata)
{
    struct cap_header h;
    struct process *p = current_process();
    int words = cap_words(uheader, &h);
    u32 data[6] = {0};
    u64 e = 0, m = 0, i = 0;

    if (words < 0)
        return words;
    if (h.pid && h.pid != p->pid && h.pid != current->tid)
        return -EPERM;
    if (copy_from_user(data, udata, (size_t)words * 12))
        return -EFAULT;
    for (int w = 0; w < words; w++) {
        e |= (u64)data[3 * w] << 32 * w;
        m |= (u64)data[3 * w + 1] << 32 * w;
        i |= (u64)data[3 * w + 2] << 32 * w;
    }
    e &= CAPS_ALL, m &= CAPS_ALL, i &= CAPS_ALL;
    if (m & ~p->cap_permitted || e & ~m)
        return -EPERM;
    if (i & ~(p->cap_inheritable | p->cap_permitted) && !capable(CAP_SETPCAP))
        return -EPERM;
    if (i & ~(p->cap_inheritable | p->cap_bounding))
        return -EPERM;
    p->cap_effective = e;
    p->cap_permitted = m;
    p->cap_inheritable = i;
    p->cap_ambient &= m & i;
    limits_apply(p, current->space);
    return 0;
}
