/*
 * random.c - streams of random numbers from one seed.
 *
 * Each stream is xoshiro256** (Blackman and Vigna, "Scrambled linear pseudorandom number
 * generators", 2018), seeded by splitmix64 from the seed and the stream's number.
 */
#include "sim.h"

static uint64_t state[SIM_STREAMS][4];

static uint64_t splitmix(uint64_t *x)
{
    uint64_t z = (*x += 0x9e3779b97f4a7c15u);

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

void sim_random_seed(uint64_t seed)
{
    for (unsigned s = 0; s < SIM_STREAMS; s++) {
        uint64_t x = seed;

        x = splitmix(&x) + s;
        for (unsigned i = 0; i < 4; i++)
            state[s][i] = splitmix(&x);
    }
}

static uint64_t rotl(uint64_t x, unsigned k) { return x << k | x >> (64 - k); }

uint64_t sim_random(enum sim_stream stream)
{
    uint64_t *s = state[stream], result = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

uint64_t sim_below(enum sim_stream s, uint64_t n)
{
    return (uint64_t)((unsigned __int128)sim_random(s) * n >> 64);
}

bool sim_one_in(enum sim_stream s, uint64_t n) { return !sim_below(s, n); }
