/*
 * kernel/proc/random.c - random bytes: a ChaCha20 generator seeded from qport_random().
 *
 * Each request turns the key: the first 32 bytes of output become the next key, so what was given out
 * cannot be computed from a later state (fast key erasure, D. J. Bernstein, 2017).
 * The seed is as good as the host's qport_random(); nothing is claimed beyond that.
 */
#include "proc.h"

static struct {
    struct kspin lock;
    u32 key[8];
    bool seeded;
    u64 blocks;
} rng;

static u32 rotl(u32 v, int n) { return v << n | v >> (32 - n); }

static void quarter(u32 *s, int a, int b, int c, int d)
{
    s[a] += s[b], s[d] = rotl(s[d] ^ s[a], 16);
    s[c] += s[d], s[b] = rotl(s[b] ^ s[c], 12);
    s[a] += s[b], s[d] = rotl(s[d] ^ s[a], 8);
    s[c] += s[d], s[b] = rotl(s[b] ^ s[c], 7);
}

/* RFC 8439, 2.3, with a 64-bit counter and no nonce. */
static void chacha_block(const u32 key[8], u64 counter, u32 out[16])
{
    u32 in[16] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};

    memcpy(in + 4, key, 32);
    in[12] = (u32)counter;
    in[13] = (u32)(counter >> 32);
    memcpy(out, in, 64);
    for (int i = 0; i < 10; i++) {
        quarter(out, 0, 4, 8, 12), quarter(out, 1, 5, 9, 13);
        quarter(out, 2, 6, 10, 14), quarter(out, 3, 7, 11, 15);
        quarter(out, 0, 5, 10, 15), quarter(out, 1, 6, 11, 12);
        quarter(out, 2, 7, 8, 13), quarter(out, 3, 4, 9, 14);
    }
    for (int i = 0; i < 16; i++)
        out[i] += in[i];
}

#define RESEED_BLOCKS 4096u

/* A key for one request; the generator's own moves on.  The spare 32 bytes serve a small request. */
static void take_key(u32 out[16])
{
    unsigned long flags = kspin_lock(&rng.lock);

    if (!rng.seeded || ++rng.blocks % RESEED_BLOCKS == 0) {
        for (int i = 0; i < 8; i += 2) {
            u64 r = qport_random();

            rng.key[i] ^= (u32)r;
            rng.key[i + 1] ^= (u32)(r >> 32);
        }
        rng.seeded = true;
    }
    chacha_block(rng.key, 0, out);
    memcpy(rng.key, out, 32);
    kspin_unlock(&rng.lock, flags);
}

void random_bytes(void *to, size_t n)
{
    u32 block[16], key[8];
    u8 *p = to;

    take_key(block);
    if (n <= 32) {
        memcpy(p, block + 8, n);
    } else {
        memcpy(key, block + 8, 32);
        for (u64 i = 1; n; i++) {
            size_t part = K_MIN(n, sizeof(block));

            chacha_block(key, i, block);
            memcpy(p, block, part);
            p += part;
            n -= part;
        }
    }
    memset(block, 0, sizeof(block));
    memset(key, 0, sizeof(key));
    __asm__ volatile("" : : "r"(block), "r"(key) : "memory");
}

#define GRND_NONBLOCK 1u
#define GRND_RANDOM   2u
#define GRND_INSECURE 4u

long sys_getrandom(u64 ubuf, size_t n, unsigned flags)
{
    u8 part[256];
    size_t done = 0;

    if (flags & ~(GRND_NONBLOCK | GRND_RANDOM | GRND_INSECURE) ||
        (flags & (GRND_RANDOM | GRND_INSECURE)) == (GRND_RANDOM | GRND_INSECURE))
        return -EINVAL;
    n = K_MIN(n, (size_t)0x7ffff000);
    while (done < n) {
        size_t take = K_MIN(n - done, sizeof(part)), left;

        random_bytes(part, take);
        left = copy_to_user_part(ubuf + done, part, take);
        done += take - left;
        if (left)
            return done ? (long)done : -EFAULT;
        if (signal_pending(current) && done >= 256)
            break;
        cond_resched();
    }
    return (long)done;
}
