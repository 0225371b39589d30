// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

#pragma once

#include "Unescape.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <string_view>

namespace epp_json {

// Keeps long strings out of simdjson's second stage, which copies each of them out of its escapes, and stumbles at each
// end of a line. A string without a backslash is read where it lies; one whose escapes are of two characters is copied out
// of them faster, where the processor can. All others are left to the second stage.
//
// Between the stages, each such string is made a short one in the document: its first bytes become a stand-in and a closing
// quote, and are put back after the second stage. What the second stage copies is the stand-in, which says where the text
// lies and how long it is. It begins with a byte that no UTF-8 has, and the first stage lets nothing else than UTF-8 pass,
// so that no document can imitate one. The second stage checks of a string its escapes alone, and looks for its end by
// itself; so it judges a document the same with and without.
class StandIns {
  public:
    // From here on a string is worth more than the keeping account of it.
    static constexpr size_t least_bytes = 128;
    // At most so many per document: 100 KB to keep account of them. Further ones are copied.
    static constexpr size_t most = 4096;

    // `places` are those of the first stage: of each brace, bracket, colon and comma, and of the start of all else.
    void place(uint8_t *bytes, size_t count, const uint32_t *places, size_t place_count) noexcept {
        used = 0;
        unescaped_used = 0;
        for (size_t i = 0; i < place_count && used < most; i++) {
            const size_t start = places[i];
            size_t end = i + 1 < place_count ? places[i + 1] : count;
            if (end < start + least_bytes + 2 || bytes[start] != '"') continue;
            // Behind the closing quote there is white space alone.
            do end--;
            while (end > start && is_space(bytes[end]));
            if (end < start + least_bytes + 1 || bytes[end] != '"') continue;
            const size_t length = end - start - 1;
            uint8_t *text = bytes + start + 1;
            if (!has_room()) return;
            const std::string_view meant = unescaped_text(text, length, count);
            if (meant.empty()) continue;
            Covered &covered = list[used++];
            covered.offset = start + 1;
            std::memcpy(covered.bytes, text, sizeof covered.bytes);
            write(text, meant);
        }
    }

    void remove(uint8_t *bytes) noexcept {
        for (size_t i = 0; i < used; i++) std::memcpy(bytes + list[i].offset, list[i].bytes, sizeof list[i].bytes);
        used = 0;
    }

    // The string itself, where `found` is a stand-in for one.
    static std::string_view text(std::string_view found) noexcept {
        if (found.size() != size || static_cast<uint8_t>(found[0]) != mark) return found;
        const auto *digits = reinterpret_cast<const uint8_t *>(found.data()) + 1;
        const uint64_t address = number(digits, address_digits), length = number(digits + address_digits, length_digits);
        return std::string_view(reinterpret_cast<const char *>(address), length);
    }

  private:
    static constexpr uint8_t mark = 0xFF;
    // Of seven bits each, with the eighth set: neither quote nor backslash.
    static constexpr size_t address_digits = 10, length_digits = 5;
    static constexpr size_t size = 1 + address_digits + length_digits;

    struct Covered {
        size_t offset;
        // The stand-in's and its quote's.
        uint8_t bytes[size + 1];
    };

    static_assert(least_bytes > size, "the stand-in and its quote lie within the string");

    std::unique_ptr<Covered[]> list;
    size_t used = 0;
    // What strings with escapes mean, one behind the other: never longer than the document.
    std::unique_ptr<uint8_t[]> unescaped;
    size_t unescaped_used = 0, unescaped_capacity = 0;
    const bool unescapes = can_unescape();

    // Empty where the second stage is to read the string.
    std::string_view unescaped_text(const uint8_t *text, size_t length, size_t document_bytes) noexcept {
        const void *escape = std::memchr(text, '\\', length);
        if (escape == nullptr) return view(text, length);
        if (!unescapes || !has_unescaped_room(document_bytes)) return {};
        const size_t plain = static_cast<size_t>(static_cast<const uint8_t *>(escape) - text);
        uint8_t *place = unescaped.get() + unescaped_used;
        std::memcpy(place, text, plain);
        const uint8_t *end = unescape(text + plain, length - plain, place + plain);
        if (end == nullptr) return {};
        const size_t count = static_cast<size_t>(end - place);
        unescaped_used += count;
        return view(place, count);
    }

    bool has_unescaped_room(size_t document_bytes) noexcept {
        if (unescaped_capacity >= document_bytes) return true;
        if (unescaped_used > 0) return false;
        // One store of the copy behind its end.
        unescaped.reset(new (std::nothrow) uint8_t[document_bytes + 64]);
        unescaped_capacity = unescaped ? document_bytes : 0;
        return unescaped != nullptr;
    }

    static std::string_view view(const uint8_t *text, size_t length) noexcept {
        return std::string_view(reinterpret_cast<const char *>(text), length);
    }

    bool has_room() noexcept {
        if (!list) list.reset(new (std::nothrow) Covered[most]);
        return list != nullptr;
    }

    static bool is_space(uint8_t byte) noexcept { return byte == ' ' || byte == '\n' || byte == '\r' || byte == '\t'; }

    static void write(uint8_t *place, std::string_view text) noexcept {
        *place++ = mark;
        place = write_number(place, reinterpret_cast<uintptr_t>(text.data()), address_digits);
        place = write_number(place, text.size(), length_digits);
        *place = '"';
    }

    static uint8_t *write_number(uint8_t *place, uint64_t value, size_t digits) noexcept {
        for (size_t i = 0; i < digits; i++, value >>= 7) *place++ = static_cast<uint8_t>(0x80 | (value & 0x7F));
        return place;
    }

    static uint64_t number(const uint8_t *digits, size_t count) noexcept {
        uint64_t value = 0;
        for (size_t i = count; i > 0; i--) value = value << 7 | (digits[i - 1] & 0x7F);
        return value;
    }
};

} // namespace epp_json
