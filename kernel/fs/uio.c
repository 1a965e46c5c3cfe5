/*
 * fs/uio.c - walking struct iovec between the kernel and a program.
 */
#include "fsint.h"

#define IOV_TOTAL_MAX 0x7ffff000ul /* MAX_RW_COUNT */

/* The current piece: its address and how much of n fits. */
static size_t piece(struct uio *u, size_t n, u64 *at)
{
    while (u->niov && u->iov_off >= u->iov->len) {
        u->iov++;
        u->niov--;
        u->iov_off = 0;
    }
    if (!u->niov)
        return 0;
    *at = u->iov->base + u->iov_off;
    return K_MIN(n, u->iov->len - u->iov_off);
}

static void advance(struct uio *u, size_t n)
{
    u->iov_off += n;
    u->left -= n;
}

size_t uio_put_part(struct uio *u, const void *from, size_t n)
{
    size_t done = 0;

    n = K_MIN(n, u->left);
    while (done < n) {
        u64 at;
        size_t k = piece(u, n - done, &at), missing = 0;

        if (!k)
            break;
        if (u->kernel)
            memcpy((void *)at, (const char *)from + done, k);
        else
            missing = copy_to_user_part(at, (const char *)from + done, k);
        advance(u, k - missing);
        done += k - missing;
        if (missing)
            break;
    }
    return done;
}

size_t uio_get_part(struct uio *u, void *to, size_t n)
{
    size_t done = 0;

    n = K_MIN(n, u->left);
    while (done < n) {
        u64 at;
        size_t k = piece(u, n - done, &at), missing = 0;

        if (!k)
            break;
        if (u->kernel)
            memcpy((char *)to + done, (const void *)at, k);
        else
            missing = copy_from_user_part((char *)to + done, at, k);
        advance(u, k - missing);
        done += k - missing;
        if (missing)
            break;
    }
    return done;
}

int uio_put(struct uio *u, const void *from, size_t n)
{
    return uio_put_part(u, from, n) == n ? 0 : -EFAULT;
}

int uio_get(struct uio *u, void *to, size_t n) { return uio_get_part(u, to, n) == n ? 0 : -EFAULT; }

static const u8 zeros[4096];

int uio_zero(struct uio *u, size_t n)
{
    while (n) {
        size_t k = K_MIN(n, sizeof zeros);

        if (uio_put_part(u, zeros, k) != k)
            return -EFAULT;
        n -= k;
    }
    return 0;
}

int uio_single(struct uio_user *uu, u64 base, u64 len)
{
    if ((i64)len < 0)
        return -EINVAL;
    if (!user_range_ok(base, len))
        return -EFAULT;
    len = K_MIN(len, IOV_TOTAL_MAX);
    uu->heap = NULL;
    uu->inline_iov[0] = (struct kiovec){base, len};
    uu->u = (struct uio){.iov = uu->inline_iov, .niov = 1, .left = len};
    return 0;
}

int uio_from_user(struct uio_user *uu, u64 uiov, u64 n)
{
    struct kiovec *iov = uu->inline_iov;
    u64 total = 0;
    int err;

    uu->heap = NULL;
    if (n > UIO_MAX)
        return -EINVAL;
    if (n > K_COUNT(uu->inline_iov)) {
        iov = uu->heap = quire_kvmalloc_array(n, sizeof *iov, QUIRE_GFP_KERNEL);
        if (!iov)
            return -ENOMEM;
    }
    err = copy_from_user(iov, uiov, n * sizeof *iov);
    for (u64 k = 0; !err && k < n; k++) {
        if ((i64)iov[k].len < 0)
            err = -EINVAL;
        else if (!user_range_ok(iov[k].base, iov[k].len))
            err = -EFAULT;
        iov[k].len = K_MIN(iov[k].len, IOV_TOTAL_MAX - total);
        total += iov[k].len;
    }
    if (err) {
        uio_done(uu);
        return err;
    }
    uu->u = (struct uio){.iov = iov, .niov = (unsigned)n, .left = total};
    return 0;
}

void uio_done(struct uio_user *uu)
{
    quire_kvfree(uu->heap);
    uu->heap = NULL;
}

void uio_kernel(struct uio *u, struct kiovec *iov, void *buf, size_t n)
{
    *iov = (struct kiovec){(u64)(uintptr_t)buf, n};
    *u = (struct uio){.iov = iov, .niov = 1, .left = n, .kernel = true};
}
