// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

#include "CIndexKernels.h"

// By the first byte of a value: its length, and which bits of its last four bytes are the number. 0: another kind of value.
static const uint8_t ix_lengths[256] = {[0x00 ... 0x7F] = 1, [0xCC] = 2, [0xCD] = 3, [0xCE] = 5};
static const uint32_t ix_masks[256] = {[0x00 ... 0x7F] = 0x7F, [0xCC] = 0xFF, [0xCD] = 0xFFFF, [0xCE] = 0xFFFFFFFF};

// `IX_BEFORE`: a value's last four bytes may begin before it.
enum { IX_LONGEST = 5, IX_READ = 16, IX_BEFORE = 4 };

static int ix_is_odd(const uint8_t *at) { return ix_lengths[*at] == 0; }

// One value; stays where it is at a value of another kind, and says what means nothing.
IX_INLINE const uint8_t *ix_token(const uint8_t *at, uint32_t *token) {
    const uint32_t mask = ix_masks[*at];
    at += ix_lengths[*at];
    uint32_t last;
    memcpy(&last, at - 4, 4);
    *token = __builtin_bswap32(last) & mask;
    return at;
}

// The same where nothing before the value may be read.
static const uint8_t *ix_first_token(const uint8_t *at, uint32_t *token) {
    const uint32_t length = ix_lengths[*at];
    uint32_t value = length == 1 ? *at : 0;
    for (uint32_t i = 1; i < length; i++) value = value << 8 | at[i];
    *token = value;
    return at + length;
}

// Where a value starts says only the value before it: each waits for the last. So four chains go at once. The first starts at
// the beginning, the others where a value seems to start further on; what they find counts once the chain before arrives
// exactly there.
enum { IX_CHAINS = 4, IX_MAX_STRIDE = 768, IX_LEAST_TOKENS = 48, IX_WARM = 3 };

typedef struct {
    const uint8_t *start[IX_CHAINS + 1];
    const uint8_t *at[IX_CHAINS];
    uint32_t *tokens[IX_CHAINS];
    // Has met a value of another kind.
    int odd[IX_CHAINS];
    uint32_t count;
} ix_chains;

// A place near `at` where a value seems to start: some from there on are of known kinds, the first of more than one byte. A
// start within a value mostly falls in step after a few.
static const uint8_t *ix_guess(const uint8_t *at) {
    for (uint32_t offset = 0; offset < IX_READ; offset++) {
        const uint8_t *place = at + offset;
        if (*place != 0xCD && *place != 0xCE) continue;
        uint32_t token;
        for (uint32_t i = 0; i < IX_WARM; i++) place = ix_token(place, &token);
        if (!ix_is_odd(place)) return place;
    }
    return at;
}

// All chains as far as none can have reached the next.
IX_INLINE void ix_advance(ix_chains *chains) {
    while (1) {
        size_t least = SIZE_MAX;
        for (uint32_t k = 0; k < IX_CHAINS; k++) {
            size_t left = chains->at[k] < chains->start[k + 1] ? (size_t)(chains->start[k + 1] - chains->at[k]) : 0;
            if (left < least) least = left;
        }
        uint32_t steps = (uint32_t)(least / IX_LONGEST);
        if (steps < 2) return;
        const uint8_t *a = chains->at[0], *b = chains->at[1], *c = chains->at[2], *d = chains->at[3];
        const uint32_t from = chains->count;
        uint32_t *const e = chains->tokens[0], *const f = chains->tokens[1];
        uint32_t *const g = chains->tokens[2], *const h = chains->tokens[3];
        for (uint32_t i = from; i < from + steps; i++) {
            a = ix_token(a, e + i);
            b = ix_token(b, f + i);
            c = ix_token(c, g + i);
            d = ix_token(d, h + i);
        }
        chains->at[0] = a, chains->at[1] = b, chains->at[2] = c, chains->at[3] = d;
        chains->count = from + steps;
        // At a value of another kind a chain stays.
        int any = 0;
        for (uint32_t k = 0; k < IX_CHAINS; k++) any |= chains->odd[k] = ix_is_odd(chains->at[k]);
        if (any) return;
    }
}

// One round of all chains. Gives how many tokens are certain; 0 where a value of another kind is near.
static uint32_t ix_round(const uint8_t **at, uint32_t stride, uint32_t *tokens, uint32_t count) {
    // A chain may start some bytes before its place, and end some behind the next.
    uint32_t found[IX_CHAINS - 1][IX_MAX_STRIDE + 2 * IX_READ];
    ix_chains chains = {.count = 0};
    chains.start[0] = *at;
    for (uint32_t k = 1; k < IX_CHAINS; k++) chains.start[k] = ix_guess(*at + k * stride);
    chains.start[IX_CHAINS] = *at + IX_CHAINS * stride;
    for (uint32_t k = 0; k < IX_CHAINS; k++) {
        chains.at[k] = chains.start[k];
        chains.tokens[k] = k == 0 ? tokens : found[k - 1];
    }
    ix_advance(&chains);
    uint32_t done = 0;
    for (uint32_t k = 0; k < IX_CHAINS; k++) {
        if (chains.odd[k] || done + chains.count > count) break;
        if (k > 0) memcpy(tokens + done, chains.tokens[k], chains.count * sizeof *tokens);
        done += chains.count;
        const uint8_t *place = chains.at[k];
        while (place < chains.start[k + 1] && done < count && !ix_is_odd(place)) place = ix_token(place, tokens + done++);
        *at = place;
        if (k + 1 == IX_CHAINS || place != chains.start[k + 1]) break;
    }
    return done;
}

uint32_t ix_decode_tokens(const uint8_t **at, const uint8_t *end, uint32_t *tokens, uint32_t count) {
    const uint8_t *place = *at;
    uint32_t done = 0;
    while (done < count && place - *at < IX_BEFORE && end - place >= IX_READ && !ix_is_odd(place))
        place = ix_first_token(place, tokens + done++);
    while (count - done >= IX_LEAST_TOKENS && place - *at >= IX_BEFORE) {
        // Most values take three bytes or more.
        uint32_t stride = (count - done) / 4 * 3 - IX_READ;
        if (stride > IX_MAX_STRIDE) stride = IX_MAX_STRIDE;
        if ((size_t)(end - place) < (size_t)IX_CHAINS * stride + 4 * IX_READ) break;
        uint32_t step = ix_round(&place, stride, tokens + done, count - done);
        if (step == 0) break;
        done += step;
    }
    // Here, IX_BEFORE bytes lie behind, or a value of another kind ahead.
    while (done < count && end - place >= IX_READ && !ix_is_odd(place)) place = ix_token(place, tokens + done++);
    *at = place;
    return done;
}

uint32_t ix_decode_hashes(const uint8_t **at, const uint8_t *end, uint64_t *hashes, uint32_t count) {
    const uint8_t *place = *at;
    uint32_t done = 0;
    while (done < count && end - place >= IX_READ && *place == 0xCF) {
        uint64_t bytes;
        memcpy(&bytes, place + 1, 8);
        hashes[done++] = __builtin_bswap64(bytes);
        place += 9;
    }
    *at = place;
    return done;
}
