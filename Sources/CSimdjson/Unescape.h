// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace epp_json {

#if defined(__x86_64__)

inline bool can_unescape() noexcept {
    return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vbmi") &&
           __builtin_cpu_supports("avx512vbmi2");
}

// Copies the text of a JSON string, without its quotes, out of its escapes of two characters. Writes at most `count` bytes,
// and may touch the 64 behind them. Returns the end of what it wrote, or NULL where there is any other escape.
//
// Takes 64 bytes at a time without a branch on what they hold: lines of a prompt end where no predictor expects it. Which
// characters are escaped is found as simdjson's first stage finds it (Langdale, Lemire: Parsing Gigabytes of JSON per Second,
// 2019, section 3.1.1).
__attribute__((target("avx512f,avx512bw,avx512vbmi,avx512vbmi2"))) inline uint8_t *
unescape(const uint8_t *text, size_t count, uint8_t *out) noexcept {
    alignas(64) uint8_t meanings[128] = {};
    const char escapes[] = "\"\"\\\\//b\bf\fn\nr\rt\t";
    for (size_t i = 0; i + 1 < sizeof escapes; i += 2) meanings[static_cast<uint8_t>(escapes[i])] = escapes[i + 1];
    const __m512i low = _mm512_load_si512(meanings), high = _mm512_load_si512(meanings + 64);
    const __m512i backslash = _mm512_set1_epi8('\\');
    const uint64_t even = 0x5555555555555555;
    uint64_t is_first_escaped = 0;
    for (size_t offset = 0; offset < count; offset += 64) {
        const size_t rest = count - offset;
        const uint64_t taken = rest >= 64 ? ~uint64_t(0) : (uint64_t(1) << rest) - 1;
        const __m512i bytes = _mm512_maskz_loadu_epi8(taken, text + offset);
        // Every second backslash of a run escapes what follows it.
        const uint64_t slashes = _mm512_cmpeq_epi8_mask(bytes, backslash) & ~is_first_escaped;
        const uint64_t followers = slashes << 1 | is_first_escaped;
        const uint64_t odd_starts = slashes & ~even & ~followers;
        uint64_t even_runs;
        is_first_escaped = __builtin_add_overflow(odd_starts, slashes, &even_runs);
        const uint64_t escaped = (even ^ (even_runs << 1)) & followers;
        const uint64_t escaping = escaped >> 1 | is_first_escaped << 63;
        const __m512i meaning = _mm512_permutex2var_epi8(low, bytes, high);
        const uint64_t unknown = _mm512_testn_epi8_mask(meaning, meaning) | _mm512_movepi8_mask(bytes);
        if (unknown & escaped) return nullptr;
        const uint64_t kept = taken & ~escaping;
        _mm512_storeu_si512(out, _mm512_maskz_compress_epi8(kept, _mm512_mask_mov_epi8(bytes, escaped, meaning)));
        out += __builtin_popcountll(kept);
    }
    return is_first_escaped ? nullptr : out;
}

#else

inline bool can_unescape() noexcept { return false; }
inline uint8_t *unescape(const uint8_t *, size_t, uint8_t *) noexcept { return nullptr; }

#endif

} // namespace epp_json
