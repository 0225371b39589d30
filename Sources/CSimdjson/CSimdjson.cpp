// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

#include "CSimdjson.h"

#include "StandIns.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <simdjson.h>
#include <string>
#include <type_traits>

using namespace simdjson;

struct epp_json_parser {
    size_t max_bytes;
    dom::parser dom;
    ondemand::parser ondemand;
    epp_json::StandIns stand_ins;

    explicit epp_json_parser(size_t max_bytes) : max_bytes(max_bytes), dom(max_bytes), ondemand(max_bytes) {}
};

namespace {

// simdjson's values and iterators are a document and a place in it, as epp_json_value is. They are copied bit by bit.
template <typename To, typename From> To as(const From &from) {
    static_assert(sizeof(To) == sizeof(From), "simdjson changed its layout");
    static_assert(std::is_trivially_copyable<To>::value && std::is_trivially_copyable<From>::value, "not plain");
    To to;
    std::memcpy(static_cast<void *>(&to), &from, sizeof to);
    return to;
}

dom::element element(epp_json_value value) { return as<dom::element>(value); }

// What dom::parser::parse does, but for the stand-ins between its two stages.
error_code parse(epp_json_parser &parser, uint8_t *bytes, size_t count) {
    dom::parser &dom = parser.dom;
    // As many as simdjson takes for a document of any size.
    const size_t wanted = std::max<size_t>(count, 32);
    if (wanted > parser.max_bytes) return CAPACITY;
    if (dom.doc.capacity() < wanted) {
        if (const error_code error = dom.doc.allocate(wanted)) return error;
    }
    if (dom.capacity() < wanted) {
        if (const error_code error = dom.allocate(wanted, dom.max_depth())) return error;
    }
    if (const error_code error = dom.implementation->stage1(bytes, count, stage1_mode::regular)) return error;
    const uint32_t *places = dom.implementation->structural_indexes.get();
    parser.stand_ins.place(bytes, count, places, dom.implementation->n_structural_indexes);
    const error_code error = dom.implementation->stage2(dom.doc);
    parser.stand_ins.remove(bytes);
    return error;
}

// Prints strings as they are, not their stand-ins.
struct Formatter : internal::mini_formatter {
    void string(std::string_view found) { internal::mini_formatter::string(epp_json::StandIns::text(found)); }
    void key(std::string_view found) { internal::mini_formatter::key(epp_json::StandIns::text(found)); }
};

} // namespace

size_t epp_json_padding(void) { return SIMDJSON_PADDING; }

epp_json_parser *epp_json_parser_create(size_t max_bytes) { return new (std::nothrow) epp_json_parser(max_bytes); }

void epp_json_parser_destroy(epp_json_parser *parser) { delete parser; }

epp_json_status epp_json_parse(epp_json_parser *parser, void *bytes, size_t count, epp_json_value *root) {
    dom::parser &dom = parser->dom;
    switch (parse(*parser, static_cast<uint8_t *>(bytes), count)) {
    case SUCCESS:
        *root = as<epp_json_value>(dom.doc.root());
        return EPP_JSON_OK;
    case DEPTH_ERROR:
        return EPP_JSON_TOO_DEEP;
    case CAPACITY:
        return EPP_JSON_TOO_LARGE;
    case MEMALLOC:
        return EPP_JSON_NO_MEMORY;
    default:
        return EPP_JSON_INVALID;
    }
}

epp_json_kind_t epp_json_kind(epp_json_value value) {
    switch (element(value).type()) {
    case dom::element_type::OBJECT:
        return EPP_JSON_OBJECT;
    case dom::element_type::ARRAY:
        return EPP_JSON_ARRAY;
    case dom::element_type::STRING:
        return EPP_JSON_STRING;
    case dom::element_type::BOOL:
        return EPP_JSON_BOOL;
    case dom::element_type::INT64:
    case dom::element_type::UINT64:
    case dom::element_type::DOUBLE:
        return EPP_JSON_NUMBER;
    default:
        return EPP_JSON_NULL;
    }
}

bool epp_json_string(epp_json_value value, const char **start, size_t *count) {
    std::string_view text;
    if (element(value).get(text) != SUCCESS) return false;
    text = epp_json::StandIns::text(text);
    *start = text.data();
    *count = text.size();
    return true;
}

bool epp_json_natural(epp_json_value value, int64_t *number) {
    int64_t result;
    if (element(value).get(result) != SUCCESS || result < 0) return false;
    *number = result;
    return true;
}

bool epp_json_bool(epp_json_value value, bool *flag) { return element(value).get(*flag) == SUCCESS; }

bool epp_json_array(epp_json_value value, epp_json_cursor *cursor) {
    dom::array array;
    if (element(value).get(array) != SUCCESS) return false;
    cursor->next = as<epp_json_value>(array.begin());
    cursor->end = as<epp_json_value>(array.end());
    return true;
}

bool epp_json_next_element(epp_json_cursor *cursor, epp_json_value *result) {
    auto next = as<dom::array::iterator>(cursor->next);
    if (next == as<dom::array::iterator>(cursor->end)) return false;
    *result = as<epp_json_value>(*next);
    cursor->next = as<epp_json_value>(++next);
    return true;
}

bool epp_json_object(epp_json_value value, epp_json_cursor *cursor) {
    dom::object object;
    if (element(value).get(object) != SUCCESS) return false;
    cursor->next = as<epp_json_value>(object.begin());
    cursor->end = as<epp_json_value>(object.end());
    return true;
}

bool epp_json_next_member(epp_json_cursor *cursor, const char **key, size_t *key_count, epp_json_value *value) {
    auto next = as<dom::object::iterator>(cursor->next);
    if (next == as<dom::object::iterator>(cursor->end)) return false;
    const std::string_view name = epp_json::StandIns::text(next.key());
    *key = name.data();
    *key_count = name.size();
    *value = as<epp_json_value>(next.value());
    cursor->next = as<epp_json_value>(++next);
    return true;
}

bool epp_json_minify(epp_json_value value, void *context, void (*take)(void *, const char *, size_t)) {
    try {
        internal::string_builder<Formatter> builder;
        builder.append(element(value));
        const std::string_view text = builder.str();
        take(context, text.data(), text.size());
        return true;
    } catch (...) {
        return false;
    }
}

size_t epp_json_locate(epp_json_parser *parser, const void *bytes, size_t count, const char *key, size_t key_count,
                       size_t *offsets, size_t *lengths, size_t capacity) {
    const std::string_view wanted(key, key_count);
    const char *start = static_cast<const char *>(bytes);
    ondemand::document document;
    ondemand::object object;
    if (parser->ondemand.iterate(start, count, count + SIMDJSON_PADDING).get(document) != SUCCESS) return 0;
    if (document.get_object().get(object) != SUCCESS) return 0;
    size_t found = 0;
    for (auto field : object) {
        std::string_view name;
        if (field.unescaped_key().get(name) != SUCCESS) return found;
        if (name != wanted) continue;
        std::string_view token;
        ondemand::value value;
        if (std::move(field).value().get(value) != SUCCESS) return found;
        token = value.raw_json_token();
        while (!token.empty() && std::strchr(" \t\r\n", token.back()) != nullptr) token.remove_suffix(1);
        if (found < capacity) {
            offsets[found] = static_cast<size_t>(token.data() - start);
            lengths[found] = token.size();
        }
        found++;
    }
    return found;
}
